//! Overload as workers see it: how far each action goes, which work is shed, and how many connections there may be.
//!
//! Owns: the state that all workers share, and the decisions made of it. Does not own: how the state comes about (the
//! overload manager of the `server` crate measures resources and sets it).
//!
//! Without an overload manager connections have no [`Overload`]: a request pays nothing for it.

use nuncio_stats::names::{LoadShedPointStats, ProactiveResourceStats};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// An action that is taken in full, in the parts that scales are counted in.
pub const SATURATED: u32 = 10_000;

/// What is done about overload (`envoy.overload_actions.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OverloadAction {
    /// Requests are answered 503.
    StopAcceptingRequests,
    /// Listening sockets are left alone.
    StopAcceptingConnections,
    /// Connections are accepted and closed.
    RejectIncomingConnections,
    /// Connections end with their next response.
    DisableHttpKeepalive,
    /// Memory that is free goes back to the system.
    ShrinkHeap,
    /// Timeouts get shorter.
    ReduceTimeouts,
    /// HTTP connections without a request are closed.
    CloseIdleHttpConnections,
}

impl OverloadAction {
    /// All of them, in the order of their numbers.
    pub const ALL: [OverloadAction; 7] = [
        OverloadAction::StopAcceptingRequests,
        OverloadAction::StopAcceptingConnections,
        OverloadAction::RejectIncomingConnections,
        OverloadAction::DisableHttpKeepalive,
        OverloadAction::ShrinkHeap,
        OverloadAction::ReduceTimeouts,
        OverloadAction::CloseIdleHttpConnections,
    ];

    /// Its name in configurations and statistics.
    pub fn name(self) -> &'static str {
        match self {
            OverloadAction::StopAcceptingRequests => "envoy.overload_actions.stop_accepting_requests",
            OverloadAction::StopAcceptingConnections => "envoy.overload_actions.stop_accepting_connections",
            OverloadAction::RejectIncomingConnections => "envoy.overload_actions.reject_incoming_connections",
            OverloadAction::DisableHttpKeepalive => "envoy.overload_actions.disable_http_keepalive",
            OverloadAction::ShrinkHeap => "envoy.overload_actions.shrink_heap",
            OverloadAction::ReduceTimeouts => "envoy.overload_actions.reduce_timeouts",
            OverloadAction::CloseIdleHttpConnections => "envoy.overload_actions.close_idle_http_connections",
        }
    }
}

/// A place where work is shed (`envoy.load_shed_points.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LoadShedPoint {
    /// A connection was accepted.
    TcpListenerAccept,
    /// A request's head was received.
    HttpConnectionManagerDecodeHeaders,
    /// A request of HTTP/1 arrives.
    Http1ServerAbortDispatch,
    /// Bytes of HTTP/2 arrive: the client is told to open no more streams.
    Http2ServerGoAwayOnDispatch,
    /// The same, and the connection ends.
    Http2ServerGoAwayAndCloseOnDispatch,
    /// The first bytes of an HTTP connection arrive.
    HcmOndataCreatingCodec,
    /// A request is about to be forwarded.
    HttpDownstreamFilterCheck,
    /// A connection to an upstream is about to be opened.
    ConnectionPoolNewConnection,
}

impl LoadShedPoint {
    /// All of them, in the order of their numbers.
    pub const ALL: [LoadShedPoint; 8] = [
        LoadShedPoint::TcpListenerAccept,
        LoadShedPoint::HttpConnectionManagerDecodeHeaders,
        LoadShedPoint::Http1ServerAbortDispatch,
        LoadShedPoint::Http2ServerGoAwayOnDispatch,
        LoadShedPoint::Http2ServerGoAwayAndCloseOnDispatch,
        LoadShedPoint::HcmOndataCreatingCodec,
        LoadShedPoint::HttpDownstreamFilterCheck,
        LoadShedPoint::ConnectionPoolNewConnection,
    ];

    /// Its name in configurations and statistics.
    pub fn name(self) -> &'static str {
        match self {
            LoadShedPoint::TcpListenerAccept => "envoy.load_shed_points.tcp_listener_accept",
            LoadShedPoint::HttpConnectionManagerDecodeHeaders => {
                "envoy.load_shed_points.http_connection_manager_decode_headers"
            }
            LoadShedPoint::Http1ServerAbortDispatch => "envoy.load_shed_points.http1_server_abort_dispatch",
            LoadShedPoint::Http2ServerGoAwayOnDispatch => "envoy.load_shed_points.http2_server_go_away_on_dispatch",
            LoadShedPoint::Http2ServerGoAwayAndCloseOnDispatch => {
                "envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch"
            }
            LoadShedPoint::HcmOndataCreatingCodec => "envoy.load_shed_points.hcm_ondata_creating_codec",
            LoadShedPoint::HttpDownstreamFilterCheck => "envoy.load_shed_points.http_downstream_filter_check",
            LoadShedPoint::ConnectionPoolNewConnection => "envoy.load_shed_points.connection_pool_new_connection",
        }
    }
}

/// A timer that `reduce_timeouts` shortens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaledTimer {
    /// `HTTP_DOWNSTREAM_CONNECTION_IDLE`
    ConnectionIdle,
    /// `HTTP_DOWNSTREAM_STREAM_IDLE`
    StreamIdle,
    /// `TRANSPORT_SOCKET_CONNECT`
    TransportSocketConnect,
    /// `HTTP_DOWNSTREAM_CONNECTION_MAX`
    ConnectionMax,
}

impl ScaledTimer {
    /// Number of them.
    pub const COUNT: usize = 4;
}

/// The shortest that a timer gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimerMinimum {
    /// A time (`min_timeout`).
    Timeout(Duration),
    /// A share of what is configured, 0.0 to 1.0 (`min_scale`).
    Scale(f64),
}

/// What does not change as long as the process lives.
#[derive(Default)]
pub struct OverloadSettings {
    /// An overload manager is configured.
    pub configured: bool,
    /// How short timers get, by [`ScaledTimer`]; those without stay as they are.
    pub timers: [Option<TimerMinimum>; ScaledTimer::COUNT],
    /// Statistics by [`LoadShedPoint`], of those that are configured.
    pub shed: [Option<LoadShedPointStats>; LoadShedPoint::ALL.len()],
    /// `max_active_downstream_connections` of the resource monitor.
    pub max_connections: Option<u64>,
    /// Statistics of that monitor; its `failed_updates` are the connections that it refused.
    pub refused: Option<ProactiveResourceStats>,
}

/// The state of overload, shared by all threads.
#[derive(Default)]
pub struct Overload {
    actions: [AtomicU32; OverloadAction::ALL.len()],
    points: [AtomicU32; LoadShedPoint::ALL.len()],
    connections: AtomicU64,
    settings: OverloadSettings,
}

impl Overload {
    /// The state where all is well.
    pub fn new(settings: OverloadSettings) -> Arc<Overload> {
        Arc::new(Overload { settings, ..Overload::default() })
    }

    /// Whether there is an overload manager.
    pub fn is_configured(&self) -> bool {
        self.settings.configured
    }

    /// Sets how far an action goes, up to [`SATURATED`]; true if that is something else than before.
    pub fn set_action(&self, action: OverloadAction, scale: u32) -> bool {
        self.actions[action as usize].swap(scale.min(SATURATED), Relaxed) != scale.min(SATURATED)
    }

    /// Sets how much is shed at a point, up to [`SATURATED`].
    pub fn set_point(&self, point: LoadShedPoint, scale: u32) {
        self.points[point as usize].store(scale.min(SATURATED), Relaxed);
    }

    /// How far an action goes, up to [`SATURATED`].
    #[inline]
    pub fn scale(&self, action: OverloadAction) -> u32 {
        self.actions[action as usize].load(Relaxed)
    }

    /// Whether an action is taken in full.
    #[inline]
    pub fn is_saturated(&self, action: OverloadAction) -> bool {
        self.scale(action) >= SATURATED
    }

    /// Whether an action is taken this time; `random` decides where it is taken in part.
    #[inline]
    pub fn acts(&self, action: OverloadAction, random: u64) -> bool {
        let scale = self.scale(action);
        scale > 0 && random % u64::from(SATURATED) < u64::from(scale)
    }

    /// Whether this piece of work is shed, which is counted then.
    #[inline]
    pub fn sheds(&self, point: LoadShedPoint, random: u64) -> bool {
        let scale = self.points[point as usize].load(Relaxed);
        let sheds = scale > 0 && random % u64::from(SATURATED) < u64::from(scale);
        if sheds && let Some(count) = &self.settings.shed[point as usize] {
            count.shed_load_count().inc();
        }
        sheds
    }

    /// A timeout as short as the present load wants it.
    #[inline]
    pub fn timeout(&self, timer: ScaledTimer, configured: Option<Duration>) -> Option<Duration> {
        let (configured, scale) = (configured?, self.scale(OverloadAction::ReduceTimeouts));
        let least = match self.settings.timers[timer as usize] {
            Some(least) if scale > 0 => least,
            _ => return Some(configured),
        };
        let least = match least {
            TimerMinimum::Timeout(least) => least.min(configured),
            TimerMinimum::Scale(share) => configured.mul_f64(share.clamp(0.0, 1.0)),
        };
        Some(least + (configured - least).mul_f64(1.0 - f64::from(scale) / f64::from(SATURATED)))
    }

    /// Connections that are open and count towards the limit.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// The limit of the resource monitor.
    pub fn max_connections(&self) -> Option<u64> {
        self.settings.max_connections
    }

    /// Counts a connection, unless there are too many. `runtime_limit` counts where no resource monitor sets a limit;
    /// `unlimited` connections are counted whatever the limit is.
    pub fn admit(self: &Arc<Self>, runtime_limit: Option<u64>, unlimited: bool) -> Option<Admitted> {
        let limit = self.settings.max_connections.or(runtime_limit).filter(|_| !unlimited).unwrap_or(u64::MAX);
        if self.connections.fetch_add(1, Relaxed) >= limit {
            self.connections.fetch_sub(1, Relaxed);
            if let Some(refused) = &self.settings.refused {
                refused.failed_updates().inc();
            }
            return None;
        }
        Some(Admitted(Arc::clone(self)))
    }
}

/// A connection that counts towards the limit, until this is dropped.
pub struct Admitted(Arc<Overload>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert!(OverloadAction::ALL.iter().enumerate().all(|(at, action)| *action as usize == at));
        assert!(LoadShedPoint::ALL.iter().enumerate().all(|(at, point)| *point as usize == at));
    }

    #[test]
    fn a_part_of_the_work_is_shed() {
        let overload = Overload::new(OverloadSettings::default());
        let (action, point) = (OverloadAction::StopAcceptingRequests, LoadShedPoint::TcpListenerAccept);
        assert!(!overload.acts(action, 0) && !overload.sheds(point, 0));
        assert!(overload.set_action(action, 2_500) && !overload.set_action(action, 2_500));
        overload.set_point(point, 2_500);
        for (random, expected) in [(0, true), (2_499, true), (2_500, false), (9_999, false), (10_000, true)] {
            assert_eq!(
                (overload.acts(action, random), overload.sheds(point, random)),
                (expected, expected),
                "{random}"
            );
        }
        overload.set_action(action, u32::MAX);
        assert!(overload.is_saturated(action) && overload.acts(action, 9_999));
    }

    #[test]
    fn timeouts_shrink_to_their_least() {
        let mut settings = OverloadSettings::default();
        settings.timers[ScaledTimer::ConnectionIdle as usize] = Some(TimerMinimum::Timeout(Duration::from_secs(10)));
        settings.timers[ScaledTimer::StreamIdle as usize] = Some(TimerMinimum::Scale(0.1));
        let overload = Overload::new(settings);
        let of = |timer| overload.timeout(timer, Some(Duration::from_secs(100))).unwrap().as_secs();
        let all = || (of(ScaledTimer::ConnectionIdle), of(ScaledTimer::StreamIdle), of(ScaledTimer::ConnectionMax));
        assert_eq!(all(), (100, 100, 100));
        overload.set_action(OverloadAction::ReduceTimeouts, 5_000);
        assert_eq!(all(), (55, 55, 100));
        overload.set_action(OverloadAction::ReduceTimeouts, SATURATED);
        assert_eq!(all(), (10, 10, 100));
        let idle = ScaledTimer::ConnectionIdle;
        assert_eq!(overload.timeout(idle, Some(Duration::from_secs(5))), Some(Duration::from_secs(5)));
        assert_eq!(overload.timeout(idle, None), None);
    }

    #[test]
    fn connections_have_a_limit() {
        let overload = Overload::new(OverloadSettings { max_connections: Some(1), ..OverloadSettings::default() });
        let first = overload.admit(Some(9), false);
        assert!(first.is_some() && overload.admit(Some(9), false).is_none());
        assert!(overload.admit(None, true).is_some());
        drop(first);
        assert_eq!(overload.connections(), 0);
        assert!(overload.admit(None, false).is_some());
        let without = Overload::new(OverloadSettings::default());
        assert!(without.admit(Some(0), false).is_none() && without.admit(None, false).is_some());
    }
}
