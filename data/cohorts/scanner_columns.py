"""Names, in lower case, of the columns that tell where and on what scanner a scan was made."""

SITES = (
    *("site", "site_id", "siteid", "center", "centre", "hospital"),
    *("institution", "institutionname", "cohort"),
)
MANUFACTURERS = ("manufacturer", "vendor")
FIELD_STRENGTHS = ("magneticfieldstrength", "magnetic_field_strength", "field_strength")
SCANNERS = (
    *("scanner", "scanner_id", "scanner_model", "model"),
    *("manufacturersmodelname", "manufacturers_model_name"),
)
ACQUISITION = (
    *("deviceserialnumber", "stationname", "protocol", "softwareversions", "receivecoilname"),
)
"""Further ones, which tell scanners of one model apart."""
