"""``ristretto init``: a train_val.prototxt from a deploy net and images, tried before it is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ristretto.atomic import (
    atomic_together,
    atomic_write_bytes,
    atomic_write_text,
    check_outputs,
    one_job,
    scratch_folder,
)
from ristretto.caffe.net import build_net, modernise, read_prototxt
from ristretto.caffe.netspec import Shape
from ristretto.caffe.rules import NetState
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import Document
from ristretto.data import open_data
from ristretto.data.records import RecordSource
from ristretto.errors import DataError, RistrettoError, UsageError
from ristretto.pipeline.feed import fed_layers
from ristretto.pipeline.given import coerce
from ristretto.pipeline.init.images import Images, find_images, list_text, split
from ristretto.pipeline.init.layers import (
    Input,
    Scores,
    Source,
    find_input,
    find_scores,
    quoted,
    with_data,
    with_scores,
)
from ristretto.pipeline.plugins import load_plugins


@dataclass(frozen=True, slots=True)
class InitOptions:
    """A deploy net, images, and how they are to be prepared.

    Attributes:
        model: the deploy prototxt.
        images: a folder, an image list or an LMDB.
        output: the prototxt to write.
        list_output: the image list to write; None for one beside the output.
        train_images: images for phase TRAIN; None takes a share of the others, or all of them.
        train: that share, 0 for none.
        mean_value: what is taken off, one value or one per channel, blue first.
        mean_file: the same as an image.
        scale: the factor after that.
        crop_size: side of the square that is cut out; 0 for none.
        new_height, new_width: what images are resized to before that; 0 for the size of the net's input.
        gray: whether images are read gray.
        batch_size: images per batch.
        label_blob: what to call the labels.
        score: the blob with the classes' scores; None finds it.
        plugins: modules that teach layer types.
    """

    model: Path
    images: Path
    output: Path
    list_output: Path | None = None
    train_images: Path | None = None
    train: float = 0.0
    mean_value: tuple[float, ...] = ()
    mean_file: Path | None = None
    scale: float = 1.0
    crop_size: int = 0
    new_height: int = 0
    new_width: int = 0
    gray: bool = False
    batch_size: int = 50
    label_blob: str = "label"
    score: str | None = None
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        coerce(self)


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was written.

    Attributes:
        files: the files.
        notes: what was chosen where nothing was said.
        labelled: whether an accuracy is scored.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    labelled: bool


@one_job()
def initialise(options: InitOptions) -> Initialised:
    """Write the prototxt and the lists it names.

    Raises:
        RistrettoError: a user's mistake; nothing is written then.
    """
    job = _Job(options)
    return job.run()


class _Job:
    def __init__(self, options: InitOptions) -> None:
        self._options = options
        self._notes: list[str] = []
        output = options.output
        self._test_list = options.list_output or output.with_name(f"{output.stem}_images.txt")
        self._train_list = self._test_list.with_name(f"{self._test_list.stem}_train.txt")
        self._label_list = self._test_list.with_name(f"{self._test_list.stem}_labels.txt")

    def run(self) -> Initialised:
        options = self._options
        _check_flags(options)
        load_plugins(options.plugins)
        document = modernise(read_prototxt(options.model))
        net = build_net(document, NetState("TEST"))
        fed = find_input(net)
        test, train = self._images()
        if test.labelled != train.labelled:
            what = "the images of one phase have labels, those of the other have none"
            raise UsageError(what, file=str(options.train_images), cure="give labels to both, or to none")
        scores = None
        if test.labelled:
            if options.label_blob in net.finals:
                what = f"the net has a blob '{options.label_blob}'"
                raise UsageError(what, file=str(options.model), cure="call the labels otherwise, with --label_blob")
            scores = find_scores(net, infer_shapes(net, {}).values, options.score)
            self._check_labels(test, train, scores)
            document = with_scores(document, net, scores, options.label_blob)
        elif options.score is not None:
            what = "--score names the scores that labels are compared with, the images have no labels"
            raise UsageError(what, cure="leave it out")
        else:
            self._notes.append("no labels: the score is agreement with the float net, no accuracy")
        with scratch_folder() as folder:
            self._try(self._prototxt(document, fed, test, train, folder), fed)
        return self._write(document, fed, test, train)

    def _images(self) -> tuple[Images, Images]:
        """The images of TEST and of TRAIN."""
        options = self._options
        test = find_images(options.images)
        if options.train_images is not None:
            return test, find_images(options.train_images)
        if not options.train:
            self._notes.append(
                "ranges will be measured on the images that are scored: --train 0.2 or --train_images keeps them apart"
            )
            return test, test
        if test.database is not None:
            cure = "name another LMDB with --train_images"
            raise UsageError("--train splits folders and lists, not an LMDB", cure=cure)
        train_items, test_items = split(test.items, options.train)
        if not train_items or not test_items:
            what = f"--train {options.train:g} of {len(test.items)} images leaves one phase without any"
            raise UsageError(what, cure="give more images, or another share")
        return replace(test, items=test_items), replace(test, items=train_items)

    def _check_labels(self, test: Images, train: Images, scores: Scores) -> None:
        wrong = next((item for item in (*test.items, *train.items) if not 0 <= item[1] < scores.classes), None)
        if wrong is not None:
            what = f"label {wrong[1]} of '{wrong[0]}', blob '{scores.blob}' has {scores.classes} classes"
            cure = f"labels count from 0 to {scores.classes - 1}"
            if test.classes:
                cure += "; folders that are named with numbers keep them, others count in sorted order"
            raise DataError(what, file=str(self._options.images), cure=cure)
        if test.classes:
            numbered = all(str(label) == name for label, name in test.classes)
            how = "the folders' own numbers" if numbered else "by sorted folder name"
            self._notes.append(f"{len(test.classes)} classes, labels {how}: see {self._label_list}")
            if len(test.classes) != scores.classes:
                more = f"the net has {scores.classes} classes, there are {len(test.classes)} folders"
                self._notes.append(f"{more}: are the labels those that it was trained with?")

    def _source(self, images: Images, fed: Input, path: Path) -> Source:
        options, (_, channels, height, width) = self._options, fed.shape
        fields = [f"mean_value: {value:.9g}" for value in options.mean_value]
        if options.mean_file is not None:
            fields.append(f"mean_file: {quoted(str(options.mean_file.absolute()))}")
        if options.scale != 1:
            fields.append(f"scale: {options.scale:.9g}")
        if options.crop_size:
            fields.append(f"crop_size: {options.crop_size}")
        size = (options.new_height, options.new_width) if options.new_height else None
        if images.database is not None:
            return Source(images.database, False, images.labelled, tuple(fields), None, False, options.batch_size)
        if size is None and not options.crop_size:
            size = height, width
        gray = options.gray or channels == 1
        return Source(
            path, True, images.labelled, tuple(fields), size, gray, min(options.batch_size, len(images.items))
        )

    def _prototxt(self, document: Document, fed: Input, test: Images, train: Images, folder: Path | None) -> Document:
        """The finished text; its lists are those beside the output, or for a trial written into a folder."""
        test_list, train_list = self._test_list.absolute(), self._train_list.absolute()
        if folder is not None:
            test_list, train_list = folder / "test.txt", folder / "train.txt"
            atomic_write_text(test_list, list_text(test.items))
            atomic_write_text(train_list, list_text(train.items))
        if train.items == test.items:
            train_list = test_list
        sources = self._source(train, fed, train_list), self._source(test, fed, test_list)
        return with_data(document, fed, *sources, self._options.label_blob)

    def _try(self, document: Document, fed: Input) -> None:
        """Open the data and see that the net takes it."""
        for phase in ("TRAIN", "TEST"):
            net = build_net(document, NetState(phase))
            shapes: dict[str, Shape] = {}
            for layer in fed_layers(net):
                try:
                    source = open_data(layer, data_root=None, seed=0)
                    batch = next(source.single_pass())
                except RistrettoError as error:
                    raise UsageError(error.what, cure=error.cure) from error
                shapes.update(source.shapes)
                images = batch[fed.blob].shape
                if images[1:] != fed.shape[1:]:
                    raise self._unsuitable(images, fed, source)
            infer_shapes(net, shapes)

    def _unsuitable(self, images: Shape, fed: Input, source: object) -> UsageError:
        come, wanted = (" x ".join(map(str, shape[1:])) for shape in (images, fed.shape))
        what = f"the images come as {come}, the net wants {wanted}"
        _, channels, height, width = fed.shape
        if images[1] != channels:
            cure = "the channels differ: --gray reads colour images gray"
            if isinstance(source, RecordSource) and channels == 3:
                cure = "the channels differ: leave --gray out, or give colour images"
        elif height == width and min(images[2:]) > height:
            cure = f"cut them with --crop_size {height}"
        else:
            cure = f"resize images with --new_height {height} --new_width {width}"
        return UsageError(what, file=str(self._options.images), cure=cure)

    def _write(self, document: Document, fed: Input, test: Images, train: Images) -> Initialised:
        options = self._options
        texts: dict[Path, str] = {}
        if test.items:
            texts[self._test_list] = list_text(test.items)
        if train.items and train.items != test.items:
            texts[self._train_list] = list_text(train.items)
        if test.classes:
            texts[self._label_list] = "".join(f"{label} {name}\n" for label, name in test.classes)
        inputs = [options.model, *([options.images] if options.images.is_file() else [])]
        check_outputs([options.output, *texts], inputs)
        final = self._prototxt(document, fed, test, train, None)
        with atomic_together():
            for path, text in texts.items():
                atomic_write_text(path, text)
            atomic_write_bytes(options.output, final.to_bytes())
        return Initialised((options.output, *texts), tuple(self._notes), test.labelled)


def _check_flags(options: InitOptions) -> None:
    if options.mean_value and options.mean_file is not None:
        raise UsageError("--mean_value and --mean_file exclude each other", cure="keep one")
    if bool(options.new_height) != bool(options.new_width):
        raise UsageError("--new_height and --new_width go together", cure="set both or none")
    if options.train and options.train_images is not None:
        raise UsageError("--train and --train_images exclude each other", cure="keep one")
