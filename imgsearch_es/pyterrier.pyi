from imgsearch_es.interfaces.pyterrier import *
