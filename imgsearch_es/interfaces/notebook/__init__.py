"""What is for notebooks only: the magic ``%imgsearch`` and the search box of ``index.browse()``."""
