//! The part of `brotli` that pingora-core's compression names. Evener passes bodies on as they are and never asks for
//! it, so it need not be built. Whoever calls it gets an error.
use std::io::{Error, ErrorKind, Result, Write};

fn not_built_in() -> Error {
    Error::new(ErrorKind::Unsupported, "brotli is not built in")
}

/// Compresses nothing.
#[derive(Debug)]
pub struct CompressorWriter<W> {
    inner: W,
}

impl<W> CompressorWriter<W> {
    pub fn new(inner: W, _buffer: usize, _quality: u32, _window: u32) -> Self {
        Self { inner }
    }

    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }
}

/// Decompresses nothing.
#[derive(Debug)]
pub struct DecompressorWriter<W> {
    inner: W,
}

impl<W> DecompressorWriter<W> {
    pub fn new(inner: W, _buffer: usize) -> Self {
        Self { inner }
    }

    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }
}

impl<W> Write for CompressorWriter<W> {
    fn write(&mut self, _bytes: &[u8]) -> Result<usize> {
        Err(not_built_in())
    }

    fn flush(&mut self) -> Result<()> {
        Err(not_built_in())
    }
}

impl<W> Write for DecompressorWriter<W> {
    fn write(&mut self, _bytes: &[u8]) -> Result<usize> {
        Err(not_built_in())
    }

    fn flush(&mut self) -> Result<()> {
        Err(not_built_in())
    }
}
