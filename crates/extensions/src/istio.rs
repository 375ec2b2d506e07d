//! What Istio's extensions share: what a workload is, as peers tell each other and as metrics name it.

pub(crate) mod exchange;
pub(crate) mod metrics;
pub(crate) mod workload;
