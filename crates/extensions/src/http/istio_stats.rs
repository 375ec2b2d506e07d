//! `stats.PluginConfig` over HTTP: Istio's metrics of requests.

use super::grpc_stats::MessageCounts;
use crate::istio::metrics::{Kind, Metric, Reporting, Seen, SeriesCache, is_peer_known, reporting};
use nuncio_api::istio::stats::PluginConfig;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::{Completed, End, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Work, Worker};
use nuncio_headers::Known;
use nuncio_stream_info::{AccessLogType, LogContext};
use std::rc::Rc;
use std::sync::Arc;

/// The extension.
pub struct IstioStatsExtension;

impl HttpExtension for IstioStatsExtension {
    type Config = PluginConfig;
    type PerRoute = PluginConfig;
    const NAME: &'static str = "envoy.filters.http.istio_stats";

    fn compile(config: PluginConfig, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        Ok(Arc::new(Factory(reporting(&config, cx)?)))
    }

    fn compile_route(_config: PluginConfig, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Err(cx.error_hint("this filter takes no configuration of routes", "configure it in http_filters"))
    }
}

struct Factory(Arc<Reporting>);

impl HttpFilterFactory for Factory {
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(Filter {
            reporting: Arc::clone(&self.0),
            series: worker.services().get_or_insert_with(SeriesCache::default),
            is_grpc: false,
            messages: [0; 2],
        })
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS
    }
}

struct Filter {
    reporting: Arc<Reporting>,
    series: Rc<SeriesCache>,
    is_grpc: bool,
    /// Messages that were reported, of the request and of the response.
    messages: [u64; 2],
}

impl Filter {
    /// Reports the messages of a call since the last time.
    fn report_messages(&mut self, stream: &Stream<'_>, end: bool) {
        let reporting = &*self.reporting;
        if !self.is_grpc || !(end || is_peer_known(reporting.reporter, stream.info)) {
            return;
        }
        let Some(object) = stream.info.filter_state.get("envoy.filters.http.grpc_stats") else { return };
        let Some(counts) = object.as_any().downcast_ref::<MessageCounts>() else { return };
        let now = counts.get();
        let seen = Seen::of(reporting.reporter, stream.info);
        let labels = seen.labels(reporting, stream.info, authority(stream), &Kind::Messages);
        let context = LogContext::new(stream.info, stream.worker.now(), stream.worker.wall());
        let values = reporting.overrides.as_ref().map(|overrides| overrides.evaluate(&context)).unwrap_or_default();
        let series = self.series.find(reporting, &labels, &values);
        let since = |at: usize| now[at].saturating_sub(self.messages[at]);
        series.count(Metric::RequestMessages, since(0), reporting);
        series.count(Metric::ResponseMessages, since(1), reporting);
        self.messages = now;
    }

    fn report(&self, stream: &Stream<'_>) {
        let (reporting, info) = (&*self.reporting, &*stream.info);
        let mut buffer = itoa(info.response_code.unwrap_or(0));
        let code = buffer.text();
        let status = if self.is_grpc { grpc_status(stream) } else { String::new() };
        let kind = Kind::Http { code, grpc_status: self.is_grpc.then_some(&*status) };
        let seen = Seen::of(reporting.reporter, info);
        let labels = seen.labels(reporting, info, authority(stream), &kind);
        let context = LogContext {
            request: Some(stream.request),
            response: Some(stream.response),
            trailers: Some(stream.response_trailers),
            kind: AccessLogType::DownstreamEnd,
            ..LogContext::new(info, stream.worker.now(), stream.worker.wall())
        };
        let values = reporting.overrides.as_ref().map(|overrides| overrides.evaluate(&context)).unwrap_or_default();
        let series = self.series.find(reporting, &labels, &values);
        let duration = info.duration(stream.worker.now()).as_millis();
        series.count(Metric::Requests, 1, reporting);
        series.count(Metric::RequestDuration, u64::try_from(duration).unwrap_or(u64::MAX), reporting);
        series.count(Metric::RequestBytes, info.downstream_bytes.wire_received, reporting);
        series.count(Metric::ResponseBytes, info.downstream_bytes.wire_sent, reporting);
        series.count_custom(&values, reporting);
    }

    /// Wakes the filter when messages are to be reported.
    fn wait(&self, stream: &mut Stream<'_>) {
        if let Some(interval) = self.reporting.interval {
            stream.background(Work::sleep(interval));
        }
    }
}

/// A number of up to five digits as text.
struct Digits([u8; 5], usize);

fn itoa(mut number: u16) -> Digits {
    let mut digits = [b'0'; 5];
    let mut at = digits.len();
    while at == digits.len() || number > 0 {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    Digits(digits, at)
}

impl Digits {
    fn text(&mut self) -> &str {
        std::str::from_utf8(self.0.get(self.1..).unwrap_or_default()).unwrap_or_default()
    }
}

/// What the request asks for.
fn authority<'a>(stream: &'a Stream<'_>) -> Option<&'a str> {
    std::str::from_utf8(stream.request.get(Known::AUTHORITY)?).ok()
}

/// The status of a call: of its trailers, its headers, or what stands for its HTTP status.
fn grpc_status(stream: &Stream<'_>) -> String {
    let told = [&*stream.response_trailers, &*stream.response].into_iter().find_map(|map| map.get(Known::GRPC_STATUS));
    match told {
        Some(status) => {
            let number = std::str::from_utf8(status).ok().and_then(|text| text.parse::<u32>().ok());
            number.map_or_else(|| "-1".to_owned(), |number| number.to_string())
        }
        None => stream
            .info
            .response_code
            .map(|code| nuncio_filter::grpc::status_of_http(code).to_string())
            .unwrap_or_default(),
    }
}

impl HttpFilter for Filter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        self.is_grpc = nuncio_route::is_grpc(stream.request);
        if self.is_grpc {
            self.wait(stream);
        }
        Step::Next
    }

    fn resume(&mut self, stream: &mut Stream<'_>, _done: Completed) -> Step {
        self.report_messages(stream, false);
        self.wait(stream);
        Step::Next
    }

    fn finish(&mut self, stream: &mut Stream<'_>) {
        self.report_messages(stream, true);
        self.report(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::istio::metrics::{Reporter, tests::reporting};
    use crate::testing::TestStream;
    use nuncio_stats::Store;
    use nuncio_stats::render::{Format, Query};
    use nuncio_stream_info::{LifeSpan, Mutability, Sharing};

    fn filter(store: &Store, test: &TestStream) -> Box<dyn HttpFilter> {
        Factory(Arc::new(reporting(store, Reporter::Server, None))).create(&test.worker)
    }

    fn line(store: &Store, start: &str) -> String {
        let text = store.render(Query { format: Format::Prometheus, ..Query::default() });
        text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_request_is_counted_at_its_end() {
        let (store, mut test) = (Store::new(1), TestStream::new());
        let mut filter = filter(&store, &test);
        test.request.set_known(Known::AUTHORITY, b"shop.example");
        assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
        assert!(test.state.started.is_empty());
        test.info.response_code = Some(404);
        test.info.downstream_bytes.wire_received = 70;
        filter.finish(&mut test.stream());
        let requests = line(&store, "istio_requests_total{");
        for expected in ["destination_service=\"shop.example\"", "request_protocol=\"http\"", "response_code=\"404\""] {
            assert!(requests.contains(expected), "{requests}");
        }
        assert!(requests.ends_with("} 1"), "{requests}");
        assert!(line(&store, "istio_request_bytes_count{").ends_with("} 1"));
        assert_eq!(line(&store, "istio_request_messages_total"), "");
    }

    #[tokio::test]
    async fn messages_of_a_call_are_counted_while_it_lasts() {
        let (store, mut test) = (Store::new(1), TestStream::new());
        let mut reporting = reporting(&store, Reporter::Server, None);
        reporting.interval = Some(std::time::Duration::from_secs(5));
        let mut filter = Filter {
            reporting: Arc::new(reporting),
            series: test.worker.services().get_or_insert_with(SeriesCache::default),
            is_grpc: false,
            messages: [0; 2],
        };
        test.request.set_known(Known::CONTENT_TYPE, b"application/grpc");
        assert!(matches!(filter.request_headers(&mut test.stream(), End::More), Step::Next));
        assert_eq!(test.state.started.len(), 1);
        let counts = Arc::new(MessageCounts::of(3, 1));
        let set = |test: &mut TestStream, counts: Arc<MessageCounts>| {
            let name = "envoy.filters.http.grpc_stats";
            let state = &mut test.info.filter_state;
            state.set(name, counts, Mutability::Mutable, LifeSpan::FilterChain, Sharing::None).unwrap();
        };
        set(&mut test, counts);
        // Who calls is not known yet.
        filter.report_messages(&test.stream(), false);
        assert_eq!(line(&store, "istio_request_messages_total"), "");
        filter.report_messages(&test.stream(), true);
        assert!(line(&store, "istio_request_messages_total{").ends_with("} 3"));
        set(&mut test, Arc::new(MessageCounts::of(5, 1)));
        test.info.response_code = Some(200);
        test.response_trailers.set_known(Known::GRPC_STATUS, b"7");
        filter.finish(&mut test.stream());
        assert!(line(&store, "istio_request_messages_total{").ends_with("} 5"));
        assert!(line(&store, "istio_response_messages_total{").ends_with("} 1"));
        let requests = line(&store, "istio_requests_total{");
        assert!(
            requests.contains("request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"7\""),
            "{requests}"
        );
    }

    #[test]
    fn numbers_are_written() {
        for (number, text) in [(0, "0"), (7, "7"), (200, "200"), (u16::MAX, "65535")] {
            assert_eq!(itoa(number).text(), text);
        }
    }
}
