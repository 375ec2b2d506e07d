//! What overload means to connections and requests.
//!
//! Owns: where the connection manager asks about overload, and how it answers. Does not own: the state of overload
//! ([`nuncio_filter::Overload`]). Without an overload manager each question is a comparison with nothing.

use crate::environment::Environment;
use bytes::Bytes;
use nuncio_filter::{LoadShedPoint, LocalReply, OverloadAction, ScaledTimer};
use nuncio_stream_info::details;
use std::time::Duration;

impl Environment {
    /// Whether an action is taken this time.
    #[inline]
    pub(crate) fn acts(&self, action: OverloadAction) -> bool {
        self.overload.as_ref().is_some_and(|overload| {
            overload.is_saturated(action) || overload.scale(action) > 0 && overload.acts(action, self.worker.random())
        })
    }

    /// Whether work is shed at a point this time, which is counted then.
    #[inline]
    pub(crate) fn sheds(&self, point: LoadShedPoint) -> bool {
        self.overload.as_ref().is_some_and(|overload| overload.sheds(point, self.worker.random()))
    }

    /// A timeout as short as the present load wants it.
    #[inline]
    pub(crate) fn timeout(&self, timer: ScaledTimer, configured: Option<Duration>) -> Option<Duration> {
        match &self.overload {
            Some(overload) => overload.timeout(timer, configured),
            None => configured,
        }
    }

    /// Whether the client is to open another connection for its next request, which is counted.
    #[inline]
    pub(crate) fn disables_keepalive(&self) -> bool {
        let disables = self.acts(OverloadAction::DisableHttpKeepalive);
        if disables {
            self.config.stats.manager.downstream_cx_overload_disable_keepalive().inc();
        }
        disables
    }

    /// The reply to a request that is not served because of overload.
    #[inline]
    pub(crate) fn refuses_request(&self) -> Option<Box<LocalReply>> {
        let refuses = self.overload.is_some()
            && (self.sheds(LoadShedPoint::HttpConnectionManagerDecodeHeaders)
                || self.acts(OverloadAction::StopAcceptingRequests));
        refuses.then(|| {
            self.config.stats.manager.downstream_rq_overload_close().inc();
            overloaded()
        })
    }

    /// The reply to a request that is not forwarded because of overload.
    pub(crate) fn refuses_to_forward(&self) -> Option<Box<LocalReply>> {
        self.sheds(LoadShedPoint::HttpDownstreamFilterCheck).then(|| {
            self.config.stats.router.rq_overload_local_reply().inc();
            overloaded()
        })
    }

    /// Whether a connection ends because of overload before it has a codec.
    pub(crate) fn refuses_codec(&self) -> bool {
        let refuses = self.sheds(LoadShedPoint::HcmOndataCreatingCodec);
        if refuses {
            self.config.stats.manager.downstream_rq_overload_close().inc();
        }
        refuses
    }
}

fn overloaded() -> Box<LocalReply> {
    LocalReply::new(503, Bytes::from_static(b"envoy overloaded"), details::OVERLOAD)
}
