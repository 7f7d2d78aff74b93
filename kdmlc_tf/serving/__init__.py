"""The student as a SavedModel: written for TF Serving, and evaluated as it is served."""
