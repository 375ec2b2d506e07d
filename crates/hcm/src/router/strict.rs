//! `strict_check_headers`: headers of the router whose malformed values are answered 400 instead of ignored.

use crate::stream::Driver;
use nuncio_filter::LocalReply;
use nuncio_headers::Known;
use nuncio_route::RetryOn;
use nuncio_stream_info::{ResponseFlags, details};

/// Whether the header can be checked at all.
pub fn is_checkable(name: Known) -> bool {
    check_of(name).is_some()
}

type Check = fn(&[u8]) -> bool;

fn check_of(name: Known) -> Option<Check> {
    Some(match name {
        Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS
        | Known::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS
        | Known::X_ENVOY_MAX_RETRIES => is_number,
        Known::X_ENVOY_RETRY_ON => |value| RetryOn::are_known(value, false),
        Known::X_ENVOY_RETRY_GRPC_ON => |value| RetryOn::are_known(value, true),
        _ => return None,
    })
}

fn is_number(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| text.trim().parse::<u64>().is_ok())
}

impl Driver<'_> {
    /// The reply to a request with a malformed value.
    pub(super) fn check_strictly(&self) -> Result<(), Box<LocalReply>> {
        for name in self.env.config.router.strict_check.iter() {
            let (Some(value), Some(check)) = (self.s.request.get(*name), check_of(*name)) else { continue };
            if check(value) {
                continue;
            }
            let (name, value) = (name.as_str(), String::from_utf8_lossy(value));
            let body = format!("invalid header '{name}' with value '{value}'");
            let details = format!("{}{{{name}}}", details::REQUEST_HEADERS_FAILED_STRICT_CHECK);
            return Err(LocalReply::new(400, body, details).with_flags(ResponseFlags::INVALID_ENVOY_REQUEST_HEADERS));
        }
        Ok(())
    }
}
