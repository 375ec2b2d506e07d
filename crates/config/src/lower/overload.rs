//! `OverloadManager` and `Watchdogs`.

use super::extension;
use super::number::duration_field;
use crate::compile::{Compile, Compiler, Entry, Invalid, message_of};
use crate::overload::{MonitorKind, OverloadConfig, ResourceMonitor, Trigger, Watchdog, Watchdogs};
use nuncio_api::pb::envoy::config::bootstrap::v3 as bootstrap;
use nuncio_api::pb::envoy::config::overload::v3 as pb;
use nuncio_api::pb::envoy::extensions::resource_monitors as monitors;
use nuncio_api::wkt::Any;
use nuncio_filter::{LoadShedPoint, OverloadAction, ScaledTimer, TimerMinimum};
use std::time::Duration;

/// `refresh_interval`, where none is given.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// The action that needs buffers to be counted by stream.
const RESET_HIGH_MEMORY_STREAM: &str = "envoy.overload_actions.reset_high_memory_stream";

type Timers = [Option<TimerMinimum>; ScaledTimer::COUNT];

/// An `OverloadManager`.
pub(super) fn overload_manager(config: &pb::OverloadManager, cx: &mut Compile<'_>) -> Result<OverloadConfig, Invalid> {
    let pb::OverloadManager { refresh_interval, resource_monitors, actions, loadshed_points, buffer_factory_config } =
        config;
    let errors = cx.errors();
    cx.unsupported_if(buffer_factory_config.is_some(), "buffer_factory_config");
    let refresh_interval = duration_field(refresh_interval, "refresh_interval", cx)?
        .filter(|interval| !interval.is_zero())
        .unwrap_or(REFRESH_INTERVAL);
    let mut lowered = OverloadConfig {
        refresh_interval,
        monitors: Vec::new(),
        actions: Vec::new(),
        points: Vec::new(),
        timers: Timers::default(),
    };
    for (index, monitor) in resource_monitors.iter().enumerate() {
        let mut cx = cx.element("resource_monitors", index);
        if lowered.monitors.iter().any(|before| before.name == monitor.name) {
            cx.field("name").error(format!("Duplicate resource monitor {}", monitor.name));
        }
        lowered.monitors.extend(resource_monitor(monitor, &mut cx).ok());
    }
    for (index, action) in actions.iter().enumerate() {
        overload_action(action, &mut lowered, &mut cx.element("actions", index));
    }
    for (index, point) in loadshed_points.iter().enumerate() {
        load_shed_point(point, &mut lowered, &mut cx.element("loadshed_points", index));
    }
    cx.unless_errors_since(errors)?;
    Ok(lowered)
}

fn resource_monitor(monitor: &pb::ResourceMonitor, cx: &mut Compile<'_>) -> Result<ResourceMonitor, Invalid> {
    use pb::resource_monitor::ConfigType;
    let pb::ResourceMonitor { name, config_type } = monitor;
    let any = config_type.as_ref().map(|ConfigType::TypedConfig(any)| any);
    let kind = extension::compile(name, any, &monitor_kinds(), "resource monitor", cx)?;
    Ok(ResourceMonitor { name: name.clone(), kind })
}

fn monitor_kinds() -> Vec<Entry<MonitorKind>> {
    const KINDS: [(&str, &str, Compiler<MonitorKind>); 5] = [
        ("envoy.resource_monitors.fixed_heap", "fixed_heap.v3.FixedHeapConfig", fixed_heap),
        ("envoy.resource_monitors.cgroup_memory", "cgroup_memory.v3.CgroupMemoryConfig", cgroup_memory),
        ("envoy.resource_monitors.cpu_utilization", "cpu_utilization.v3.CpuUtilizationConfig", cpu),
        (
            "envoy.resource_monitors.global_downstream_max_connections",
            "downstream_connections.v3.DownstreamConnectionsConfig",
            connections,
        ),
        ("envoy.resource_monitors.injected_resource", "injected_resource.v3.InjectedResourceConfig", injected),
    ];
    let entry = |(name, message, compile): (_, &str, _)| {
        let config = format!("envoy.extensions.resource_monitors.{message}");
        Entry { name, config, compile }
    };
    KINDS.into_iter().map(entry).collect()
}

fn fixed_heap(any: &Any, cx: &mut Compile<'_>) -> Result<MonitorKind, Invalid> {
    let config: monitors::fixed_heap::v3::FixedHeapConfig = cx.decode(any)?;
    if config.max_heap_size_bytes_runtime.is_some() {
        return Err(cx.refuse("max_heap_size_bytes_runtime", "the heap would be without limit"));
    }
    if config.max_heap_size_bytes == 0 {
        return Err(cx.field("max_heap_size_bytes").error("is 0, expected more"));
    }
    Ok(MonitorKind::FixedHeap(config.max_heap_size_bytes))
}

fn cgroup_memory(any: &Any, cx: &mut Compile<'_>) -> Result<MonitorKind, Invalid> {
    let config: monitors::cgroup_memory::v3::CgroupMemoryConfig = cx.decode(any)?;
    Ok(MonitorKind::CgroupMemory(Some(config.max_memory_bytes).filter(|bytes| *bytes > 0)))
}

fn cpu(any: &Any, cx: &mut Compile<'_>) -> Result<MonitorKind, Invalid> {
    use monitors::cpu_utilization::v3::cpu_utilization_config::UtilizationComputeStrategy;
    let config: monitors::cpu_utilization::v3::CpuUtilizationConfig = cx.decode(any)?;
    Ok(match config.mode() {
        UtilizationComputeStrategy::Host => MonitorKind::HostCpu,
        UtilizationComputeStrategy::Container => MonitorKind::ContainerCpu,
    })
}

fn connections(any: &Any, cx: &mut Compile<'_>) -> Result<MonitorKind, Invalid> {
    let config: monitors::downstream_connections::v3::DownstreamConnectionsConfig = cx.decode(any)?;
    match u64::try_from(config.max_active_downstream_connections) {
        Ok(most) if most > 0 => Ok(MonitorKind::DownstreamConnections(most)),
        _ => Err(cx.field("max_active_downstream_connections").error("must be more than 0")),
    }
}

fn injected(any: &Any, cx: &mut Compile<'_>) -> Result<MonitorKind, Invalid> {
    let config: monitors::injected_resource::v3::InjectedResourceConfig = cx.decode(any)?;
    Ok(MonitorKind::Injected(config.filename))
}

fn overload_action(action: &pb::OverloadAction, lowered: &mut OverloadConfig, cx: &mut Compile<'_>) {
    let pb::OverloadAction { name, triggers, typed_config } = action;
    if name == RESET_HIGH_MEMORY_STREAM {
        cx.unsupported("name");
        return;
    }
    let Some(kind) = OverloadAction::ALL.into_iter().find(|kind| kind.name() == name) else {
        cx.field("name").error(format!("Unknown Overload Manager Action {name}"));
        return;
    };
    if lowered.actions.iter().any(|(before, _)| *before == kind) {
        cx.field("name").error(format!("Duplicate overload action {name}"));
    }
    match (kind, typed_config) {
        (OverloadAction::ReduceTimeouts, Some(any)) => {
            let errors = timers(any, &mut lowered.timers, &mut cx.field("typed_config"));
            if errors.is_err() {
                return;
            }
        }
        (OverloadAction::ReduceTimeouts, None) => {
            cx.error_hint(
                format!("Overload action \"{name}\" requires a configuration"),
                "set typed_config to a ScaleTimersOverloadActionConfig",
            );
        }
        // jemalloc frees in the background, as fast as it decays; there is no interval.
        (OverloadAction::ShrinkHeap, Some(_)) => cx.unsupported("typed_config"),
        (_, Some(_)) => {
            cx.field("typed_config").error(format!("Overload action \"{name}\" has an unexpected value"));
        }
        (_, None) => {}
    }
    let triggers = self::triggers(triggers, &lowered.monitors, cx);
    lowered.actions.push((kind, triggers));
}

fn load_shed_point(point: &pb::LoadShedPoint, lowered: &mut OverloadConfig, cx: &mut Compile<'_>) {
    let pb::LoadShedPoint { name, triggers } = point;
    let Some(kind) = LoadShedPoint::ALL.into_iter().find(|kind| kind.name() == name) else {
        // Envoy takes any name; one that nothing asks about does nothing there either.
        cx.unsupported("name");
        return;
    };
    if lowered.points.iter().any(|(before, _)| *before == kind) {
        cx.field("name").error(format!("Duplicate loadshed point {name}"));
    }
    let triggers = self::triggers(triggers, &lowered.monitors, cx);
    lowered.points.push((kind, triggers));
}

fn triggers(triggers: &[pb::Trigger], monitors: &[ResourceMonitor], cx: &mut Compile<'_>) -> Vec<Trigger> {
    use pb::trigger::TriggerOneof;
    let mut lowered: Vec<Trigger> = Vec::new();
    for (index, trigger) in triggers.iter().enumerate() {
        let mut cx = cx.element("triggers", index);
        let Some(monitor) = monitors.iter().position(|monitor| monitor.name == trigger.name) else {
            let text = format!("Unknown trigger resource {}", trigger.name);
            cx.field("name").error_hint(text, "name one of resource_monitors");
            continue;
        };
        if lowered.iter().any(|before| before.monitor == monitor) {
            cx.field("name").error(format!("Duplicate trigger resource for overload action {}", trigger.name));
        }
        let (from, to) = match &trigger.trigger_oneof {
            Some(TriggerOneof::Threshold(threshold)) => (threshold.value, threshold.value),
            Some(TriggerOneof::Scaled(scaled)) => {
                if scaled.scaling_threshold >= scaled.saturation_threshold {
                    cx.field("scaled").error("scaling_threshold must be less than saturation_threshold");
                }
                (scaled.scaling_threshold, scaled.saturation_threshold)
            }
            None => {
                cx.error_hint("says not when", "set threshold or scaled");
                continue;
            }
        };
        lowered.push(Trigger { monitor, from, to });
    }
    lowered
}

/// `ScaleTimersOverloadActionConfig`.
fn timers(any: &Any, timers: &mut Timers, cx: &mut Compile<'_>) -> Result<(), Invalid> {
    use pb::scale_timers_overload_action_config::TimerType;
    use pb::scale_timers_overload_action_config::scale_timer::OverloadAdjust;
    const MESSAGE: &str = "envoy.config.overload.v3.ScaleTimersOverloadActionConfig";
    if message_of(any) != MESSAGE {
        return Err(cx.error(format!("is not a {MESSAGE}")));
    }
    let config: pb::ScaleTimersOverloadActionConfig = cx.decode(any)?;
    for (index, factor) in config.timer_scale_factors.iter().enumerate() {
        let mut cx = cx.element("timer_scale_factors", index);
        let timer = match factor.timer() {
            TimerType::HttpDownstreamConnectionIdle => ScaledTimer::ConnectionIdle,
            TimerType::HttpDownstreamStreamIdle => ScaledTimer::StreamIdle,
            TimerType::TransportSocketConnect => ScaledTimer::TransportSocketConnect,
            TimerType::HttpDownstreamConnectionMax => ScaledTimer::ConnectionMax,
            TimerType::HttpDownstreamStreamFlush => {
                cx.unsupported("timer");
                continue;
            }
            TimerType::Unspecified => return Err(cx.field("timer").error("names no timer")),
        };
        if timers[timer as usize].is_some() {
            return Err(cx.field("timer").error("Found duplicate entry for timer type"));
        }
        timers[timer as usize] = Some(match &factor.overload_adjust {
            Some(OverloadAdjust::MinTimeout(minimum)) => {
                let minimum = duration_field(&Some(*minimum), "min_timeout", &mut cx)?;
                TimerMinimum::Timeout(minimum.unwrap_or_default())
            }
            Some(OverloadAdjust::MinScale(percent)) => TimerMinimum::Scale(percent.value.clamp(0.0, 100.0) / 100.0),
            None => return Err(cx.error_hint("has no minimum", "set min_timeout or min_scale")),
        });
    }
    Ok(())
}

/// `watchdogs`, or the one `watchdog` for all threads.
pub(super) fn watchdogs(
    watchdogs: Option<&bootstrap::Watchdogs>,
    one: Option<&bootstrap::Watchdog>,
    cx: &mut Compile<'_>,
) -> Watchdogs {
    if let Some(one) = one {
        if watchdogs.is_some() {
            cx.field("watchdog").error("Only one of watchdog or watchdogs should be set!");
        }
        let one = watchdog(Some(one), &mut cx.field("watchdog"));
        return Watchdogs { main_thread: one, workers: one };
    }
    let mut cx = cx.field("watchdogs");
    let (main, workers) =
        watchdogs.map_or((None, None), |both| (both.main_thread_watchdog.as_ref(), both.worker_watchdog.as_ref()));
    Watchdogs {
        main_thread: watchdog(main, &mut cx.field("main_thread_watchdog")),
        workers: watchdog(workers, &mut cx.field("worker_watchdog")),
    }
}

fn watchdog(watchdog: Option<&bootstrap::Watchdog>, cx: &mut Compile<'_>) -> Watchdog {
    let Some(watchdog) = watchdog else { return Watchdog::default() };
    let bootstrap::Watchdog {
        actions,
        miss_timeout,
        megamiss_timeout,
        kill_timeout,
        max_kill_timeout_jitter,
        multikill_timeout,
        multikill_threshold,
    } = watchdog;
    cx.unsupported_if(!actions.is_empty(), "actions");
    cx.unsupported_if(kill_timeout.is_some(), "kill_timeout");
    cx.unsupported_if(max_kill_timeout_jitter.is_some(), "max_kill_timeout_jitter");
    cx.unsupported_if(multikill_timeout.is_some(), "multikill_timeout");
    cx.unsupported_if(multikill_threshold.is_some(), "multikill_threshold");
    let default = Watchdog::default();
    let mut time = |value, field, default: Duration| {
        let time = duration_field(value, field, cx).ok().flatten();
        time.filter(|time| !time.is_zero()).unwrap_or(default)
    };
    Watchdog {
        miss: time(miss_timeout, "miss_timeout", default.miss),
        mega_miss: time(megamiss_timeout, "megamiss_timeout", default.mega_miss),
    }
}
