//! The rules of the API, checked on wire bytes.
use crate::diagnostics::Diagnostics;
use crate::source::Positions;
use crate::transcode::Gaps;
use nuncio_api::schema::MessageRef;
pub fn validate(_: &[u8], _: MessageRef, _: &Gaps, _: &Positions, _: &mut Diagnostics) {}
