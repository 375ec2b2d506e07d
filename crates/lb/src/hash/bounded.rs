//! Consistent hashing with bounded loads (<https://arxiv.org/abs/1608.01350>): a host with more than its share of the requests in
//! flight passes the next one on, to a host that the hash alone decides.

use crate::{Endpoint, HostSet};

/// The share of each host of one priority, by position; the shares add up to 1.
pub(super) type Shares = Box<[(u32, f64)]>;

/// What a bound is worked out from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// `hash_balance_factor`, in percent.
    pub(crate) factor: u32,
    /// Requests in flight to the whole cluster.
    pub(crate) active: u64,
}

impl Bound {
    /// How full a host is; above 1 it should get nothing.
    fn load<H: Endpoint>(&self, set: &HostSet<H>, position: u32, share: f64) -> f64 {
        let active = set.hosts().get(position as usize).map_or(0, Endpoint::active_requests);
        let slots = (self.active + 1).saturating_mul(u64::from(self.factor)).saturating_add(99) / 100;
        f64::from(active) / (slots as f64 * share).ceil().max(1.0)
    }

    /// The host that takes the request which the hash leads to `found`.
    pub(super) fn pass_on<H: Endpoint>(&self, set: &HostSet<H>, shares: &Shares, hash: u64, found: u32) -> u32 {
        let own = shares.iter().find(|(position, _)| *position == found).map_or(1.0, |(_, share)| *share);
        let mut least = (self.load(set, found, own), found);
        if least.0 <= 1.0 {
            return found;
        }
        let mut random = Twister::new(hash as u32);
        let len = shares.len() as u32;
        let mut order: Vec<u32> = (0..len).collect();
        for at in 0..len {
            let other = at + random.below(len - at);
            order.swap(at as usize, other as usize);
            let Some((position, share)) = order.get(at as usize).and_then(|index| shares.get(*index as usize)) else {
                continue;
            };
            if *position == found {
                continue;
            }
            let load = self.load(set, *position, *share);
            if load <= 1.0 {
                return *position;
            }
            if load < least.0 {
                least = (load, *position);
            }
        }
        least.1
    }
}

const WORDS: usize = 624;

/// The Mersenne Twister MT19937: Envoy's proxies and this one must walk the hosts in the same order.
struct Twister {
    state: [u32; WORDS],
    at: usize,
}

impl Twister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; WORDS];
        let mut last = seed;
        for (index, word) in state.iter_mut().enumerate().skip(1) {
            last = (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
            *word = last;
        }
        Twister { state, at: WORDS }
    }

    fn twist(&mut self) {
        for at in 0..WORDS {
            let mixed = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % WORDS] & 0x7fff_ffff);
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + 397) % WORDS] ^ (mixed >> 1) ^ odd;
        }
        self.at = 0;
    }

    fn next(&mut self) -> u32 {
        if self.at >= WORDS {
            self.twist();
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Evenly below `limit`, which is above zero.
    fn below(&mut self, limit: u32) -> u32 {
        let width = (1u64 << 32) / u64::from(limit.max(1));
        loop {
            let number = u64::from(self.next()) / width;
            if number < u64::from(limit.max(1)) {
                return number as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twister_is_the_standard_one() {
        let mut random = Twister::new(5489);
        let numbers: Vec<u32> = (0..10_000).map(|_| random.next()).collect();
        assert_eq!((numbers[0], numbers[9_999]), (3_499_211_612, 4_123_659_995));
    }
}
