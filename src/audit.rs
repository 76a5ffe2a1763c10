//! Is the archive what its manifests say? Read from outside, without trust in what is read.

pub mod days;
