from imgsearch_es.interfaces.mteb import *
