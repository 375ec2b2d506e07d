//! Happy Eyeballs (RFC 8305): an endpoint with several addresses is tried at one after another, and the first connection that is
//! made is the one.

use crate::config::HappyEyeballs;
use nuncio_stream_info::Address;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// How long an attempt has before the next address is tried beside it. 300 ms as in Envoy; RFC 8305 §5 recommends 250 ms.
const ATTEMPT_DELAY: Duration = Duration::from_millis(300);

/// The order in which to try them: families take turns (RFC 8305 §4).
pub(super) fn in_order(addresses: &[Address], options: &HappyEyeballs) -> VecDeque<Address> {
    let is_v6 = |address: &Address| address.ip().is_some_and(|ip| ip.is_ipv6());
    let first_is_v6 = options.first_is_v6.unwrap_or_else(|| addresses.first().is_some_and(is_v6));
    let (mut first, mut second): (VecDeque<Address>, VecDeque<Address>) =
        addresses.iter().cloned().partition(|address| is_v6(address) == first_is_v6);
    let mut ordered: VecDeque<Address> = VecDeque::with_capacity(addresses.len());
    let count = (options.first_count.max(1) as usize).min(first.len());
    ordered.extend(first.drain(..count));
    while !first.is_empty() || !second.is_empty() {
        ordered.extend(second.pop_front());
        ordered.extend(first.pop_front());
    }
    ordered
}

/// The first success, else the last failure; `none` if there is no address. Attempts that lost are dropped.
pub(super) async fn race<T, E, F>(
    mut addresses: VecDeque<Address>,
    none: E,
    mut attempt: impl FnMut(Address) -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut last = Some(none);
    let mut running: Vec<Pin<Box<F>>> = Vec::with_capacity(addresses.len());
    let mut delay = pin!(tokio::time::sleep(ATTEMPT_DELAY));
    poll_fn(move |cx| {
        loop {
            let mut failed = false;
            let mut at = 0;
            while let Some(one) = running.get_mut(at) {
                match one.as_mut().poll(cx) {
                    Poll::Ready(Ok(won)) => return Poll::Ready(Ok(won)),
                    Poll::Ready(Err(error)) => {
                        failed = true;
                        last = Some(error);
                        drop(running.remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            let is_due = failed || running.is_empty() || delay.as_mut().poll(cx).is_ready();
            let next = if is_due { addresses.pop_front() } else { None };
            if let Some(address) = next {
                running.push(Box::pin(attempt(address)));
                delay.as_mut().reset(tokio::time::Instant::now() + ATTEMPT_DELAY);
            } else if let (true, Some(error)) = (running.is_empty(), last.take()) {
                return Poll::Ready(Err(error));
            } else {
                return Poll::Pending;
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::time::{Instant, sleep};

    fn address(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    fn ordered(addresses: &[&str], options: &HappyEyeballs) -> String {
        let addresses: Vec<Address> = addresses.iter().map(|text| address(&format!("{text}:1"))).collect();
        let ordered = in_order(&addresses, options);
        ordered.iter().map(|address| address.ip().unwrap().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn families_take_turns() {
        let all = ["1.1.1.1", "2.2.2.2", "3.3.3.3", "[::1]", "[::2]"];
        let mut options = HappyEyeballs::default();
        assert_eq!(ordered(&all, &options), "1.1.1.1 ::1 2.2.2.2 ::2 3.3.3.3");
        options.first_is_v6 = Some(true);
        assert_eq!(ordered(&all, &options), "::1 1.1.1.1 ::2 2.2.2.2 3.3.3.3");
        options = HappyEyeballs { first_is_v6: None, first_count: 2 };
        assert_eq!(ordered(&all, &options), "1.1.1.1 2.2.2.2 ::1 3.3.3.3 ::2");
        assert_eq!(ordered(&all[..2], &options), "1.1.1.1 2.2.2.2");
    }

    /// Runs attempts that take so many milliseconds and succeed or not: what won, after how long, and when each began.
    async fn run(attempts: &[(u64, bool)]) -> (Result<usize, usize>, u128, Vec<u128>) {
        let start = Instant::now();
        let begun = RefCell::new(Vec::new());
        let addresses = attempts.iter().map(|_| address("1.1.1.1:1")).collect();
        let outcome = race(addresses, 99, |_| {
            let index = begun.borrow().len();
            begun.borrow_mut().push(start.elapsed().as_millis());
            let (takes, works) = attempts[index];
            async move {
                sleep(Duration::from_millis(takes)).await;
                if works { Ok(index) } else { Err(index) }
            }
        });
        let outcome = outcome.await;
        (outcome, start.elapsed().as_millis(), begun.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_attempts_run_beside_one_another() {
        assert_eq!(run(&[(10, true), (10, true)]).await, (Ok(0), 10, vec![0]));
        assert_eq!(run(&[(1000, true), (10, true)]).await, (Ok(1), 310, vec![0, 300]));
        assert_eq!(run(&[(500, true), (1000, true), (1000, true)]).await, (Ok(0), 500, vec![0, 300]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_begins_the_next_at_once() {
        assert_eq!(run(&[(20, false), (30, true)]).await, (Ok(1), 50, vec![0, 20]));
        assert_eq!(run(&[(20, false), (30, false)]).await, (Err(1), 50, vec![0, 20]));
        assert_eq!(run(&[]).await, (Err(99), 0, vec![]));
    }
}
