//! The main job of the README.
