//! `stat_group!`: declares the stats that share a prefix.

/// Declares a group of stats that share a prefix.
///
/// ```
/// nuncio_stats::stat_group! {
///     /// `cluster.<name>.*`
///     pub group ExampleStats {
///         counters { upstream_cx_total, default_cx_open = "circuit_breakers.default.cx_open" }
///         gauges { upstream_cx_active }
///         histograms { upstream_rq_time(ms) }
///         text { version_text }
///     }
/// }
/// let store = nuncio_stats::Store::new(1);
/// let stats = ExampleStats::register(&store.scope("cluster.foo", &[]));
/// stats.upstream_cx_total().inc();
/// stats.upstream_cx_active().add(1);
/// stats.upstream_rq_time().record(12);
/// assert_eq!(store.value("cluster.foo.upstream_cx_total"), Some(1));
/// ```
///
/// Sections may be left out but keep this order. A name that is not an identifier is given after `=`.
/// Histogram units: `ms`, `us`, `bytes`, `percent`, `none`. `pub lazy group` hides every stat until it
/// is first used, as Envoy does for stats that it creates on first use.
#[macro_export]
macro_rules! stat_group {
    ($(#[$meta:meta])* $vis:vis group $($rest:tt)*) => {
        $crate::stat_group!(@group [$(#[$meta])*] [$vis] [false] $($rest)*);
    };
    ($(#[$meta:meta])* $vis:vis lazy group $($rest:tt)*) => {
        $crate::stat_group!(@group [$(#[$meta])*] [$vis] [true] $($rest)*);
    };
    (@group [$(#[$meta:meta])*] [$vis:vis] [$lazy:literal] $name:ident {
        $(counters { $($(#[$cm:meta])* $counter:ident $(= $counter_name:literal)?),* $(,)? })?
        $(gauges { $($(#[$gm:meta])* $gauge:ident $(= $gauge_name:literal)?),* $(,)? })?
        $(histograms { $($(#[$hm:meta])* $histogram:ident ($unit:ident) $(= $histogram_name:literal)?),* $(,)? })?
        $(text { $($(#[$tm:meta])* $text:ident $(= $text_name:literal)?),* $(,)? })?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name<H = ::std::sync::Arc<$crate::Group>> {
            group: H,
        }

        const _: () = {
            #[allow(non_camel_case_types, dead_code, clippy::upper_case_acronyms)]
            enum CounterIndex { $($($counter,)*)? End }
            #[allow(non_camel_case_types, dead_code, clippy::upper_case_acronyms)]
            enum GaugeIndex { $($($gauge,)*)? End }
            #[allow(non_camel_case_types, dead_code, clippy::upper_case_acronyms)]
            enum HistogramIndex { $($($histogram,)*)? End }
            #[allow(non_camel_case_types, dead_code, clippy::upper_case_acronyms)]
            enum TextIndex { $($($text,)*)? End }

            static DESCRIPTOR: $crate::Descriptor = $crate::Descriptor {
                group: stringify!($name),
                lazy: $lazy,
                counters: &[$($($crate::stat_group!(@name $counter $($counter_name)?),)*)?],
                gauges: &[$($($crate::stat_group!(@name $gauge $($gauge_name)?),)*)?],
                histograms: &[$($((
                    $crate::stat_group!(@name $histogram $($histogram_name)?),
                    $crate::stat_group!(@unit $unit),
                ),)*)?],
                text: &[$($($crate::stat_group!(@name $text $($text_name)?),)*)?],
            };

            #[allow(dead_code)]
            impl $name {
                /// The names of this group, without their scope.
                pub const DESCRIPTOR: &'static $crate::Descriptor = &DESCRIPTOR;

                /// Adds the group to the store under the prefix of `scope`. It disappears from the output
                /// with its last clone.
                pub fn register(scope: &$crate::Scope) -> Self {
                    Self { group: scope.register(&DESCRIPTOR) }
                }

                /// The same stats with this worker's cells looked up: cheaper for several updates in a row.
                #[inline]
                pub fn local(&self) -> $name<$crate::Local<'_>> {
                    $name { group: $crate::GroupHandle::local(&self.group) }
                }
            }

            #[allow(dead_code)]
            impl<H: $crate::GroupHandle> $name<H> {
                $($(
                    $(#[$cm])*
                    #[inline]
                    pub fn $counter(&self) -> $crate::CounterRef<'_> {
                        $crate::CounterRef::new($crate::GroupHandle::local(&self.group), CounterIndex::$counter as u32)
                    }
                )*)?
                $($(
                    $(#[$gm])*
                    #[inline]
                    pub fn $gauge(&self) -> $crate::GaugeRef<'_> {
                        $crate::GaugeRef::new(
                            $crate::GroupHandle::local(&self.group),
                            CounterIndex::End as u32,
                            GaugeIndex::$gauge as u32,
                        )
                    }
                )*)?
                $($(
                    $(#[$hm])*
                    #[inline]
                    pub fn $histogram(&self) -> $crate::HistogramRef<'_> {
                        $crate::HistogramRef::new($crate::GroupHandle::local(&self.group), HistogramIndex::$histogram as u32)
                    }
                )*)?
                $($(
                    $(#[$tm])*
                    pub fn $text(&self) -> $crate::TextRef<'_> {
                        $crate::TextRef::new($crate::GroupHandle::group(&self.group), TextIndex::$text as u32)
                    }
                )*)?
            }
        };
    };
    (@name $ident:ident) => { stringify!($ident) };
    (@name $ident:ident $name:literal) => { $name };
    (@unit ms) => { $crate::Unit::Milliseconds };
    (@unit us) => { $crate::Unit::Microseconds };
    (@unit bytes) => { $crate::Unit::Bytes };
    (@unit percent) => { $crate::Unit::Percent };
    (@unit none) => { $crate::Unit::Unspecified };
}
