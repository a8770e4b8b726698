"""The pictures of a run, for its page and as PNG files.

``catalogue.py`` lists them; each other module draws one kind of picture, with the axes, colours and output formats of
``drawing.py``. A picture is only listed if the run has what it shows.
"""
