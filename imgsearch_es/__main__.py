"""``python -m imgsearch_es`` is ``imgsearch``."""

from imgsearch_es.cli import main

if __name__ == "__main__":
    main()
