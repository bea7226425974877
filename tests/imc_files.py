"""Small files of imaging mass cytometry: what readimc reads, and nothing writes."""

from xml.sax.saxutils import escape

import numpy as np

PANEL = {("In", 115): "CD3", ("Ir", 191): "DNA", ("Ir", 193): "DNA", ("Xe", 131): ""}
LABELS = ["CD3", "DNA(Ir191)", "DNA(Ir193)", "Xe131"]


def counts(shape=(4, 11, 9), seed=0):
    return np.random.default_rng(seed).gamma(1, 3, shape).astype("float32")


def table(pixels):
    """One row for each pixel of a (c, y, x) image: x, y, z and the channels."""
    n_channels, height, width = pixels.shape
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width])
    columns = [x, y, np.zeros_like(x), *pixels.reshape(n_channels, -1)]
    return np.stack(columns, axis=1).astype("<f4")


def write_mcd(path, acquisitions):
    """An .mcd file of acquisitions: (description, {(metal, mass): label}, pixels, ...).

    The pixels of all come first, then the metadata in XML. A fourth item of an acquisition is how
    many bytes are missing at its end.
    """
    body, elements = b"\0" * 64, ["<Slide><ID>0</ID></Slide>"]
    elements.append("<Panorama><ID>0</ID><SlideID>0</SlideID><Type>Default</Type></Panorama>")
    for number, (description, channels, pixels, *missing) in enumerate(acquisitions, start=1):
        data = table(pixels).tobytes()
        data = data[: len(data) - sum(missing)]
        start, body = len(body), body + data
        # As the instrument writes one that was planned only.
        start, end = (start, len(body)) if data else (0, 0)
        _, height, width = pixels.shape
        elements.append(
            f"<AcquisitionROI><ID>{number}</ID><PanoramaID>0</PanoramaID></AcquisitionROI>"
            f"<Acquisition><ID>{number}</ID><AcquisitionROIID>{number}</AcquisitionROIID>"
            f"<Description>{escape(description)}</Description>"
            f"<DataStartOffset>{start}</DataStartOffset><DataEndOffset>{end}</DataEndOffset>"
            f"<ValueBytes>4</ValueBytes><MaxX>{width}</MaxX><MaxY>{height}</MaxY>"
            "<AblationDistanceBetweenShotsX>1</AblationDistanceBetweenShotsX>"
            "<AblationDistanceBetweenShotsY>2</AblationDistanceBetweenShotsY></Acquisition>"
        )
        named = [("X", "X"), ("Y", "Y"), ("Z", "Z")]
        named += [(f"{metal}({mass})", label) for (metal, mass), label in channels.items()]
        elements += [
            f"<AcquisitionChannel><AcquisitionID>{number}</AcquisitionID>"
            f"<OrderNumber>{order}</OrderNumber><ChannelName>{name}</ChannelName>"
            f"<ChannelLabel>{escape(label)}</ChannelLabel></AcquisitionChannel>"
            for order, (name, label) in enumerate(named)
        ]
    schema = f'<MCDSchema xmlns="http://example.org/mcd">{"".join(elements)}</MCDSchema>'
    path.write_bytes(body + schema.encode("utf-16-le"))


def write_txt(path, channels, pixels):
    """The .txt file of one acquisition."""
    names = ["Start_push", "End_push", "Pushes_duration", "X", "Y", "Z"]
    names += [f"{label}({metal}{mass}Di)" for (metal, mass), label in channels.items()]
    rows = [
        "\t".join([str(number), str(number), "1", *(f"{value:.9g}" for value in row)])
        for number, row in enumerate(table(pixels))
    ]
    path.write_text("\n".join(["\t".join(names), *rows]) + "\n", encoding="utf-8")
