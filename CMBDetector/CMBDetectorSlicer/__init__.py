"""What the CMBDetector module is made of, apart from the module file itself.

Everything here may import ``slicer``, ``vtk``, ``qt`` and ``ctk`` and the library. Packages that
3D Slicer does not bring along are imported where they are used, never at the top of a file.
"""
