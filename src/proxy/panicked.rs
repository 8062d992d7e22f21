//! An exchange that panicked: its client is told so, and nothing of it stays behind.
use super::answer::Refusal;
use super::exchange::{End, Exchange};
use crate::dialect::RefusalCode;

impl Exchange<'_> {
    /// Answers 500 where no answer has begun, and cuts the connection otherwise. The replica is not blamed.
    pub(super) async fn end_after_panic(&mut self) -> End {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.forget();
        }
        self.original = None;
        let code = RefusalCode::InternalError;
        if self.begun() {
            self.record.refuse(code);
            return End::Cut;
        }
        // How far the request was read is not known any more.
        self.session.set_keepalive(None);
        let message = "Evener failed at this request; its log says where";
        self.refuse(Refusal::new(code, message)).await
    }
}
