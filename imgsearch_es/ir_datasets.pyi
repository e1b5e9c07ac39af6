from imgsearch_es.evaluation.sharing import *
