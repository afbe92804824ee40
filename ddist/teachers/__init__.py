"""Teachers: trained networks that score real images, label synthetic ones or are inverted."""

from ddist.teachers.base import Teacher
from ddist.teachers.committee import Committee
from ddist.teachers.cut import Cut
from ddist.teachers.labels import with_labels
from ddist.teachers.loaded import Loaded, Published
from ddist.teachers.trained import Trained

__all__ = ["Committee", "Cut", "Loaded", "Published", "Teacher", "Trained", "with_labels"]
