"""Physics simulator of T2*-weighted GRE and SWI heads with microbleeds.

From a head label map to a scan: deformed anatomy -> susceptibility, R2*, proton density, T1 ->
field by dipole convolution -> complex signal on a fine grid -> sampled to the scan's voxels ->
noise, bias field, SWI. Every scan is made with and without its lesions; the difference is the
truth.
"""
