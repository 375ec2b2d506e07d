//! Measures what the codec costs per exchange: parsing and writing a request and a response, with 1 and 12 headers.
//!
//! `cargo run --release --example hot_path -p nuncio-http`. The budget is 137 ns with 1 header and 433 ns with 12.

use nuncio_headers::HeaderMap;
use nuncio_http::Version;
use nuncio_http::h1::{
    HeadScanner, Parsed, RequestOptions, ResponseOptions, ResponseWrite, Spelling, TargetForm, parse_request,
    parse_response, write_request_head, write_response_head,
};
use std::hint::black_box;
use std::time::Instant;

const REQUEST_1: &[u8] = b"GET /plain/path HTTP/1.1\r\nHost: backend.example.com\r\n\r\n";
const RESPONSE_1: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n";

const REQUEST_12: &[u8] = b"GET /api/v1/products/4711?currency=EUR HTTP/1.1\r\n\
Host: shop.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
Accept: application/json, text/plain, */*\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Referer: https://shop.example.com/products/\r\n\
Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghijklmnop\r\n\
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
X-Request-Id: 2f1c8a52-6a53-4f2e-9d6b-1f2e3d4c5b6a\r\n\
X-Custom-Tenant: tenant-42\r\n\
Sec-Fetch-Mode: cors\r\n\
Cache-Control: no-cache\r\n\r\n";

const RESPONSE_12: &[u8] = b"HTTP/1.1 200 OK\r\n\
Date: Fri, 20 Nov 2026 14:00:00 GMT\r\n\
Content-Type: application/json; charset=utf-8\r\n\
Content-Length: 1234\r\n\
Cache-Control: private, max-age=60\r\n\
ETag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\
Vary: Accept-Encoding\r\n\
X-Content-Type-Options: nosniff\r\n\
X-Frame-Options: DENY\r\n\
Strict-Transport-Security: max-age=31536000\r\n\
Server: backend/1.2\r\n\
X-Runtime: 0.012345\r\n\
Set-Cookie: session=0123456789abcdef; Path=/; HttpOnly\r\n\r\n";

/// What a connection keeps between exchanges.
struct Exchange {
    request_options: RequestOptions,
    response_options: ResponseOptions,
    scan: HeadScanner,
    headers: HeaderMap,
    out: Vec<u8>,
}

impl Exchange {
    fn parse_request(&mut self, input: &[u8]) -> usize {
        match parse_request(black_box(input), &mut self.scan, &self.request_options, &mut self.headers) {
            Ok(Parsed::Complete(head, used)) => {
                black_box(head);
                used
            }
            _ => 0,
        }
    }

    fn write_request(&mut self) -> usize {
        self.out.clear();
        let framing = nuncio_http::h1::request_framing(&self.headers, true);
        write_request_head(&mut self.out, &self.headers, framing, Spelling::Lower, TargetForm::Origin);
        black_box(&self.out).len()
    }

    fn parse_response(&mut self, input: &[u8]) -> usize {
        match parse_response(black_box(input), &mut self.scan, &self.response_options, &mut self.headers) {
            Ok(Parsed::Complete(head, used)) => {
                black_box(head);
                used
            }
            _ => 0,
        }
    }

    fn write_response(&mut self) -> usize {
        self.out.clear();
        let framing = nuncio_http::h1::response_framing(&self.headers, 200, Version::Http11, false, false);
        let how =
            ResponseWrite { version: Version::Http11, framing, reason: None, close: false, spelling: Spelling::Lower };
        write_response_head(&mut self.out, &self.headers, &how);
        black_box(&self.out).len()
    }
}

/// The least of several runs, in nanoseconds a call: what disturbs a run only makes it longer.
fn measure(mut call: impl FnMut() -> usize) -> f64 {
    const CALLS: u32 = 20_000;
    let mut least = f64::MAX;
    for _ in 0..60 {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        least = least.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    least
}

fn run(name: &str, request: &[u8], response: &[u8], budget: f64) {
    let mut exchange = Exchange {
        request_options: RequestOptions::default(),
        response_options: ResponseOptions::default(),
        scan: HeadScanner::new(),
        headers: HeaderMap::new(),
        out: Vec::with_capacity(4096),
    };
    assert_eq!(exchange.parse_request(request), request.len());
    assert_eq!(exchange.parse_response(response), response.len());
    let parse_request = measure(|| exchange.parse_request(request));
    let write_request = measure(|| exchange.write_request());
    let parse_response = measure(|| exchange.parse_response(response));
    let write_response = measure(|| exchange.write_response());
    let whole = measure(|| {
        let mut sum = exchange.parse_request(request);
        sum += exchange.write_request();
        sum += exchange.parse_response(response);
        sum + exchange.write_response()
    });
    println!(
        "{name:>10}: request parse {parse_request:6.1} write {write_request:6.1}; response parse {parse_response:6.1} \
         write {write_response:6.1}; together {whole:6.1} ns (budget {budget})"
    );
}

fn main() {
    run("1 header", REQUEST_1, RESPONSE_1, 137.0);
    run("12 headers", REQUEST_12, RESPONSE_12, 433.0);
}
