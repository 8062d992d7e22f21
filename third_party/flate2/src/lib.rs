//! The part of `flate2` that pingora-core's compression names. Evener passes bodies on as they are and never asks for
//! it, so the C library need not be built. Whoever calls it gets an error.

/// A level of compression.
#[derive(Clone, Copy, Debug)]
pub struct Compression(pub u32);

impl Compression {
    pub fn new(level: u32) -> Self {
        Self(level)
    }
}

pub mod write {
    use super::Compression;
    use std::io::{Error, ErrorKind, Result, Write};

    fn not_built_in() -> Error {
        Error::new(ErrorKind::Unsupported, "gzip is not built in")
    }

    /// Compresses nothing.
    #[derive(Debug)]
    pub struct GzEncoder<W> {
        inner: W,
    }

    impl<W> GzEncoder<W> {
        pub fn new(inner: W, _level: Compression) -> Self {
            Self { inner }
        }

        pub fn get_ref(&self) -> &W {
            &self.inner
        }

        pub fn get_mut(&mut self) -> &mut W {
            &mut self.inner
        }

        pub fn try_finish(&mut self) -> Result<()> {
            Err(not_built_in())
        }
    }

    /// Decompresses nothing.
    #[derive(Debug)]
    pub struct GzDecoder<W> {
        inner: W,
    }

    impl<W> GzDecoder<W> {
        pub fn new(inner: W) -> Self {
            Self { inner }
        }

        pub fn get_ref(&self) -> &W {
            &self.inner
        }

        pub fn get_mut(&mut self) -> &mut W {
            &mut self.inner
        }

        pub fn try_finish(&mut self) -> Result<()> {
            Err(not_built_in())
        }
    }

    impl<W> Write for GzEncoder<W> {
        fn write(&mut self, _bytes: &[u8]) -> Result<usize> {
            Err(not_built_in())
        }

        fn flush(&mut self) -> Result<()> {
            Err(not_built_in())
        }
    }

    impl<W> Write for GzDecoder<W> {
        fn write(&mut self, _bytes: &[u8]) -> Result<usize> {
            Err(not_built_in())
        }

        fn flush(&mut self) -> Result<()> {
            Err(not_built_in())
        }
    }
}
