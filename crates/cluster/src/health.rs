//! The health of a host: why it takes load, or not.

use nuncio_lb::Health;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        /// One reason, or several (Envoy's `Host::HealthFlag`).
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct HealthFlags(u32);

        impl HealthFlags {
            $($(#[$doc])* pub const $name: HealthFlags = HealthFlags(1 << $bit);)*

            /// Every flag with its name in `/clusters`.
            pub const ALL: &'static [(HealthFlags, &'static str)] = &[$((HealthFlags::$name, $text)),*];
        }
    };
}

flags! {
    /// Active health checks fail.
    FAILED_ACTIVE_HC = 0, "failed_active_hc";
    /// Ejected by outlier detection.
    FAILED_OUTLIER_CHECK = 1, "failed_outlier_check";
    /// Configuration says `UNHEALTHY` or `TIMEOUT`.
    FAILED_EDS_HEALTH = 2, "failed_eds_health";
    /// Active health checks answer `x-envoy-degraded`.
    DEGRADED_ACTIVE_HC = 3, "degraded_active_hc";
    /// Configuration says `DEGRADED`.
    DEGRADED_EDS_HEALTH = 4, "degraded_eds_health";
    /// Discovery dropped it; it stays because health checks pass.
    PENDING_DYNAMIC_REMOVAL = 5, "pending_dynamic_removal";
    /// Not yet checked.
    PENDING_ACTIVE_HC = 6, "pending_active_hc";
    /// A response said `x-envoy-immediate-health-check-fail`.
    EXCLUDED_VIA_IMMEDIATE_HC_FAIL = 7, "excluded_via_immediate_hc_fail";
    /// Active health checks time out.
    ACTIVE_HC_TIMEOUT = 8, "active_hc_timeout";
    /// Configuration says `DRAINING`.
    EDS_STATUS_DRAINING = 9, "eds_status_draining";
}

impl HealthFlags {
    /// No flag.
    pub const NONE: HealthFlags = HealthFlags(0);

    const UNHEALTHY: HealthFlags = HealthFlags::FAILED_ACTIVE_HC
        .or(HealthFlags::FAILED_OUTLIER_CHECK)
        .or(HealthFlags::FAILED_EDS_HEALTH)
        .or(HealthFlags::EDS_STATUS_DRAINING);
    const DEGRADED: HealthFlags = HealthFlags::DEGRADED_ACTIVE_HC.or(HealthFlags::DEGRADED_EDS_HEALTH);

    /// The flags of both.
    pub const fn or(self, other: HealthFlags) -> HealthFlags {
        HealthFlags(self.0 | other.0)
    }

    /// Whether any flag of `other` is among these.
    pub const fn has(self, other: HealthFlags) -> bool {
        self.0 & other.0 != 0
    }

    /// What a balancer makes of the flags (Envoy's coarse health).
    pub fn health(self) -> Health {
        // A host that was never checked is marked as pending only where such hosts are to be left out.
        if self.has(HealthFlags::PENDING_ACTIVE_HC.or(HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL)) {
            Health::Excluded
        } else if self.has(HealthFlags::UNHEALTHY) {
            Health::Unhealthy
        } else if self.has(HealthFlags::DEGRADED) {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }
}

impl fmt::Display for HealthFlags {
    /// As `/clusters` prints them: `/failed_active_hc/failed_outlier_check`, or `healthy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == HealthFlags::NONE {
            return f.write_str("healthy");
        }
        for (_, name) in Self::ALL.iter().filter(|(flag, _)| self.has(*flag)) {
            write!(f, "/{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for HealthFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Flags that several threads read and write.
#[derive(Debug, Default)]
pub(crate) struct AtomicHealthFlags(AtomicU32);

impl AtomicHealthFlags {
    pub(crate) fn new(flags: HealthFlags) -> Self {
        AtomicHealthFlags(AtomicU32::new(flags.0))
    }

    #[inline]
    pub(crate) fn get(&self) -> HealthFlags {
        HealthFlags(self.0.load(Ordering::Relaxed))
    }

    /// Sets flags; whether any of them was not set before.
    pub(crate) fn set(&self, flags: HealthFlags) -> bool {
        self.0.fetch_or(flags.0, Ordering::Relaxed) & flags.0 != flags.0
    }

    /// Clears flags; whether any of them was set before.
    pub(crate) fn clear(&self, flags: HealthFlags) -> bool {
        self.0.fetch_and(!flags.0, Ordering::Relaxed) & flags.0 != 0
    }
}
