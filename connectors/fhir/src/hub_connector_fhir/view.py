MEDIA_TYPE = "application/fhir+json"
def rendered(answer): return b""
