"""A reader of the documentation: has the files of which the pages speak, and types in what they show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from ristretto.data.source import open_source  # noqa: F401
from tests.docs.pages import ROOT, Block

LENET = ROOT / "models" / "digits_lenet"
