//! The part of `zstd` that pingora-core's compression names. Evener passes bodies on as they are and never asks for
//! it, so the C library need not be built. Whoever calls it gets an error.
pub mod stream {
    pub mod write {
        use std::io::{Error, ErrorKind, Result, Write};
        use std::marker::PhantomData;

        /// Compresses nothing.
        #[derive(Debug)]
        pub struct Encoder<'a, W> {
            inner: W,
            dictionary: PhantomData<&'a ()>,
        }

        fn not_built_in() -> Error {
            Error::new(ErrorKind::Unsupported, "zstd is not built in")
        }

        impl<W> Encoder<'_, W> {
            pub fn new(inner: W, _level: i32) -> Result<Self> {
                Ok(Self { inner, dictionary: PhantomData })
            }

            pub fn with_dictionary(_inner: W, _level: i32, _dictionary: &[u8]) -> Result<Self> {
                Err(not_built_in())
            }

            pub fn get_ref(&self) -> &W {
                &self.inner
            }

            pub fn get_mut(&mut self) -> &mut W {
                &mut self.inner
            }

            pub fn do_finish(&mut self) -> Result<()> {
                Err(not_built_in())
            }
        }

        impl<W> Write for Encoder<'_, W> {
            fn write(&mut self, _bytes: &[u8]) -> Result<usize> {
                Err(not_built_in())
            }

            fn flush(&mut self) -> Result<()> {
                Err(not_built_in())
            }
        }
    }
}
