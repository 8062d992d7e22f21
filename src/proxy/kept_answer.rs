//! An answer that is kept as it passes, up to a length, to be compared with another one.
use super::buffers::{Buffers, Reservation};
use super::meaning::{Meaning, form_of};
use crate::dialect::OutputForm;
use crate::dialect::grpc::{GrpcStatus, http_status_of_grpc, severity_of_code};
use crate::fleet::{Mirrored, Mirroring};
use crate::mirror::Answer;
use bytes::BytesMut;
use pingora_http::ResponseHeader;

/// A longer answer is not compared.
const LONGEST: usize = 1 << 20;
/// The least space of `buffers` that an answer takes; it grows by doubling, as the memory does.
pub(super) const STEP: u64 = 64 << 10;

/// What the client of a request that is mirrored is answered.
pub(super) struct Original {
    pub(super) mirroring: Mirroring,
    pub(super) answer: Kept,
}

/// An answer, as far as it is here.
pub(super) struct Kept {
    pub(super) status: u16,
    form: OutputForm,
    body: BytesMut,
    space: Reservation,
    /// It could not be kept as a whole; what that is counted as.
    pub(super) lost: Option<Mirrored>,
}

impl Kept {
    pub(super) fn empty(space: Reservation) -> Self {
        Self { status: 0, form: OutputForm::Opaque, body: BytesMut::new(), space, lost: None }
    }

    /// An answer begins; what an attempt before had begun is forgotten.
    pub(super) fn begin(&mut self, head: &ResponseHeader, meaning: Meaning) {
        self.status = severity_of_code(meaning.code);
        self.form = form_of(head);
        self.body.clear();
        self.lost = None;
    }

    /// A call ended so. It is compared by what that means in HTTP.
    pub(super) fn ends_as(&mut self, status: GrpcStatus) {
        self.status = http_status_of_grpc(status);
    }

    pub(super) fn take(&mut self, chunk: &[u8], buffers: &Buffers) {
        let length = self.body.len() + chunk.len();
        if self.lost.is_some() {
            return;
        }
        if length > LONGEST {
            self.lost = Some(Mirrored::TooLarge);
        } else if !buffers
            .grow_spare(&mut self.space, (length as u64).next_power_of_two().max(STEP))
        {
            self.lost = Some(Mirrored::Skipped);
        } else {
            return self.body.extend_from_slice(chunk);
        }
        self.body = BytesMut::new();
    }

    pub(super) fn answer(&self) -> Answer<'_> {
        Answer { status: self.status, form: self.form, body: &self.body }
    }
}
