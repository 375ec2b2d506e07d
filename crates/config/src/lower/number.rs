//! Durations, percentages, wrappers and ranges.

use crate::compile::{Compile, Invalid};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::r#type::v3 as kind;
use nuncio_api::wkt;
use nuncio_matcher::{Denominator, FractionalPercent, RuntimeFractionalPercent};
use nuncio_stream_info::RuntimeValue;
use std::ops::Range;
use std::time::Duration;

/// A duration; none if it is negative or out of protobuf's range, which the rules of the API refuse where it matters.
pub fn duration(value: &wkt::Duration) -> Option<Duration> {
    let seconds = u64::try_from(value.seconds).ok()?;
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// The duration of a field; an error there if it is negative.
pub fn duration_field(
    value: &Option<wkt::Duration>,
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<Option<Duration>, Invalid> {
    let Some(value) = value else { return Ok(None) };
    match duration(value) {
        Some(duration) => Ok(Some(duration)),
        None => Err(cx.field(field).error("found a negative or malformed duration, expected zero or more, like 1.5s")),
    }
}

/// `Percent`: 0 to 100.
pub fn percent(value: &Option<kind::Percent>, default: f64) -> f64 {
    value.as_ref().map_or(default, |percent| percent.value.clamp(0.0, 100.0))
}

/// `FractionalPercent`.
pub fn fractional_percent(value: &kind::FractionalPercent) -> FractionalPercent {
    let denominator = match value.denominator() {
        kind::fractional_percent::DenominatorType::Hundred => Denominator::Hundred,
        kind::fractional_percent::DenominatorType::TenThousand => Denominator::TenThousand,
        kind::fractional_percent::DenominatorType::Million => Denominator::Million,
    };
    FractionalPercent { numerator: value.numerator, denominator }
}

/// `RuntimeFractionalPercent`.
pub fn runtime_fraction(value: &core::RuntimeFractionalPercent) -> RuntimeFractionalPercent {
    let core::RuntimeFractionalPercent { default_value, runtime_key } = value;
    RuntimeFractionalPercent {
        default_value: default_value.as_ref().map(fractional_percent).unwrap_or_default(),
        runtime_key: runtime_key.as_str().into(),
    }
}

/// `RuntimeUInt32`.
pub fn runtime_uint32(value: &core::RuntimeUInt32) -> RuntimeValue {
    let core::RuntimeUInt32 { default_value, runtime_key } = value;
    RuntimeValue { default: u64::from(*default_value), key: runtime_key.as_str().into() }
}

/// A number of at most 16 bits, such as a port.
pub fn port(value: u32, field: &'static str, cx: &mut Compile<'_>) -> Result<u16, Invalid> {
    u16::try_from(value).map_err(|_| cx.field(field).error(format!("found {value}, expected a port up to 65535")))
}

/// Half-open ranges of HTTP status codes within 100 to 599.
pub fn status_ranges(
    ranges: &[kind::Int64Range],
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<Vec<Range<u16>>, Invalid> {
    let mut lowered = Vec::with_capacity(ranges.len());
    let before = cx.errors();
    for (index, kind::Int64Range { start, end }) in ranges.iter().enumerate() {
        match (u16::try_from(*start), u16::try_from(*end)) {
            (Ok(start), Ok(end)) if start >= 100 && end <= 600 && start < end => lowered.push(start..end),
            _ => {
                let text =
                    format!("found {start} to {end}, expected a range from 100 to 600 whose end is not included");
                cx.element(field, index).error(text);
            }
        }
    }
    cx.unless_errors_since(before)?;
    Ok(lowered)
}

/// The value of a wrapper.
pub trait Wrapped {
    /// What is wrapped.
    type Value;
    /// The value, if it is set.
    fn get(&self) -> Option<Self::Value>;
    /// The value, or `default`.
    fn value_or(&self, default: Self::Value) -> Self::Value
    where
        Self: Sized,
    {
        self.get().unwrap_or(default)
    }
}

macro_rules! wrapped {
    ($($wrapper:ident $value:ty),*) => { $(
        impl Wrapped for Option<wkt::$wrapper> {
            type Value = $value;
            fn get(&self) -> Option<$value> {
                self.as_ref().map(|wrapper| wrapper.value)
            }
        }
    )* };
}

wrapped!(BoolValue bool, UInt32Value u32, UInt64Value u64, DoubleValue f64);
