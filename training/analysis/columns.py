"""The columns of the two tables: names, units, and what the comparison shows of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name
        As it stands in the table.
    title
        For a plot's axis, without the unit; empty where the column is not compared between
        datasets, because it is no number or depends on the scanner's arbitrary units.
    unit
        ``mm``, ``mm²`` and so on; empty for shares, ratios and counts.
    is_drawn
        Whether the page has a plot of it.
    is_logarithmic
        Whether the plot's axis is.
    """

    name: str
    title: str = ""
    unit: str = ""
    is_drawn: bool = False
    is_logarithmic: bool = False

    @property
    def is_compared(self) -> bool:
        """Whether distributions of it are compared between datasets."""
        return bool(self.title)

    @property
    def label(self) -> str:
        """Title with the unit in parentheses."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


def _raw(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name) for name in names)


_SHAPE = (
    Column("n_voxels", "Voxels", is_logarithmic=True),
    Column("n_slices", "Slices", is_drawn=True),
    Column("equivalent_diameter_mm", "Equivalent diameter", "mm", is_drawn=True),
    Column("max_diameter_mm", "Largest diameter, voxel edges included", "mm", is_drawn=True),
    Column("elongation", "Least over major axis, voxel extent included", is_drawn=True),
    Column(
        "original_shape_VoxelVolume",
        "Volume of the voxels",
        "mm³",
        is_drawn=True,
        is_logarithmic=True,
    ),
    Column("original_shape_MeshVolume", "Volume of the mesh", "mm³", is_logarithmic=True),
    Column("original_shape_SurfaceArea", "Surface of the mesh", "mm²", is_logarithmic=True),
    Column("original_shape_SurfaceVolumeRatio", "Surface over volume", "1/mm"),
    Column("original_shape_Sphericity", "Sphericity", is_drawn=True),
    Column("original_shape_Maximum3DDiameter", "Largest diameter of the mesh", "mm"),
    Column("original_shape_Maximum2DDiameterSlice", "Largest diameter in a slice", "mm"),
    Column("original_shape_Maximum2DDiameterColumn", "Largest diameter, coronal", "mm"),
    Column("original_shape_Maximum2DDiameterRow", "Largest diameter, sagittal", "mm"),
    Column("original_shape_MajorAxisLength", "Major axis", "mm"),
    Column("original_shape_MinorAxisLength", "Minor axis", "mm"),
    Column("original_shape_LeastAxisLength", "Least axis", "mm"),
    Column("original_shape_Elongation", "Minor over major axis", is_drawn=True),
    Column("original_shape_Flatness", "Least over major axis"),
)

_INTENSITY = (
    *_raw(
        "original_firstorder_10Percentile",
        "original_firstorder_90Percentile",
        "original_firstorder_InterquartileRange",
    ),
    Column("original_firstorder_Kurtosis", "Kurtosis of the intensities"),
    *_raw(
        "original_firstorder_Maximum",
        "original_firstorder_MeanAbsoluteDeviation",
        "original_firstorder_Mean",
        "original_firstorder_Median",
        "original_firstorder_Minimum",
        "original_firstorder_Range",
        "original_firstorder_RootMeanSquared",
    ),
    Column("original_firstorder_Skewness", "Skewness of the intensities"),
    *_raw("original_firstorder_Variance", "n_shell_voxels", "surround_median", "surround_sigma"),
    Column("mean_contrast", "Mean contrast, share of the surround", is_drawn=True),
    Column("peak_contrast", "Peak contrast, share of the surround", is_drawn=True),
    Column("noise_sigma"),
    Column("depth_to_noise", "Depth over noise", is_drawn=True, is_logarithmic=True),
    Column(
        "depth_to_texture",
        "Mean depth over the surround's spread",
        is_drawn=True,
        is_logarithmic=True,
    ),
    Column("edge_sharpness_per_mm", "Edge sharpness", "1/mm", is_drawn=True),
    Column("simulator_contrast_to_noise"),
)

LESION_COLUMNS: tuple[Column, ...] = (
    *_raw(
        "dataset",
        "scan_id",
        "lesion",
        "x_ras_mm",
        "y_ras_mm",
        "z_ras_mm",
        "axial_slice",
        "hemisphere",
        "zone",
        "region",
        "place",
    ),
    Column("distance_to_surface_mm", "Distance to the brain's surface", "mm", is_drawn=True),
    *_SHAPE,
    *_INTENSITY,
)
"""Of ``lesion_features.csv``: one row per lesion."""

SCAN_COLUMNS: tuple[Column, ...] = (
    *_raw("dataset", "scan_id", "annotation", "sequence", "center"),
    Column("field_strength_t", "Field strength", "T"),
    Column("echo_time_ms", "Echo time", "ms", is_drawn=True),
    Column("slice_thickness_mm", "Slice thickness", "mm"),
    Column("slice_spacing_mm", "Distance of slices", "mm", is_drawn=True),
    Column("in_plane_mm", "Voxel size in the plane", "mm", is_drawn=True),
    *_raw("spacing_i_mm", "spacing_j_mm", "spacing_k_mm", "n_i", "n_j", "n_k", "axes"),
    Column("obliquity_deg", "Obliquity", "degrees"),
    *_raw("background"),
    Column("brain_ml", "Brain", "ml"),
    Column("tissue_to_noise", "Tissue over noise", is_drawn=True, is_logarithmic=True),
    Column("n_lesions", "Lesions in a scan", is_drawn=True),
    Column("lesion_volume_mm3", "Volume of all lesions", "mm³", is_logarithmic=True),
    *_raw("n_listed", "n_faint", "split", "problem"),
)
"""Of ``scan_features.csv``: one row per scan, also of those that could not be analyzed."""

BY_NAME: dict[str, Column] = {c.name: c for c in (*LESION_COLUMNS, *SCAN_COLUMNS)}
