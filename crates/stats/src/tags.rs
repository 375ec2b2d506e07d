//! Finds tags in names.
