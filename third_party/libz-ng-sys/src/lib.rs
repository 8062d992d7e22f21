//! zlib under the name that `flate2` asks for, so that building needs no cmake.
pub use libz_sys::*;
