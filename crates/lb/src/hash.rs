//! Consistent hashing: the hash functions, the ring and Maglev's table.

mod bounded;
#[cfg(test)]
mod tests;

pub(crate) use bounded::Bound;

use crate::host_set::{HostSet, Kind};
use crate::{CommonOptions, Endpoint, HashFunction, Maglev, Policy, RingHash};
use std::sync::Arc;

/// The seed of libstdc++'s `std::hash`.
const STD_HASH_SEED: u64 = 0xc70f_6907;

/// Where a hash leads to, for each priority.
#[derive(Debug)]
pub(crate) struct HashTable {
    tables: Box<[(Table, bounded::Shares)]>,
}

#[derive(Debug)]
enum Table {
    /// Points in ascending order, each with the position of its host.
    Ring(Box<[(u64, u32)]>),
    /// Positions of hosts.
    Maglev(Box<[u32]>),
}

impl HashTable {
    pub(crate) fn new<H: Endpoint>(
        policy: &Policy,
        sets: &[Arc<HostSet<H>>],
        panic: &[bool],
        options: &CommonOptions,
    ) -> Self {
        let table = |(set, panic): (&Arc<HostSet<H>>, &bool)| {
            let weights = normalized_weights(set, *panic, options.locality_weighted);
            let table = match policy {
                Policy::Maglev(options) => Table::Maglev(maglev(set, &weights, options)),
                Policy::RingHash(options) => Table::Ring(ring(set, &weights, options)),
                _ => Table::Ring(Box::default()),
            };
            (table, if options.hash_balance_factor > 0 { weights.into() } else { bounded::Shares::default() })
        };
        HashTable { tables: sets.iter().zip(panic).map(table).collect() }
    }

    /// The position of the host for a hash; another one for each attempt.
    pub(crate) fn find(&self, priority: usize, hash: u64, attempt: u32) -> Option<u32> {
        match &self.tables.get(priority)?.0 {
            Table::Ring(ring) => {
                let at = ring.partition_point(|(point, _)| *point < hash);
                let index = (at + attempt as usize).checked_rem(ring.len())?;
                ring.get(index).map(|(_, position)| *position)
            }
            Table::Maglev(table) => {
                let hash = if attempt > 0 { hash ^ (!0 - u64::from(attempt) + 1) } else { hash };
                let index = hash.checked_rem(table.len() as u64)?;
                table.get(index as usize).copied()
            }
        }
    }
}

impl HashTable {
    /// The host that takes a request in place of `found`, if that has too many.
    pub(crate) fn within<H: Endpoint>(&self, set: (usize, &HostSet<H>), hash: u64, found: u32, bound: Bound) -> u32 {
        match self.tables.get(set.0) {
            Some((_, shares)) if !shares.is_empty() => bound.pass_on(set.1, shares, hash, found),
            _ => found,
        }
    }
}

/// Hosts that take load, by position, with their share of it; the shares add up to 1.
fn normalized_weights<H: Endpoint>(set: &HostSet<H>, panic: bool, locality_weighted: bool) -> Vec<(u32, f64)> {
    let kind = if panic { Kind::All } else { Kind::Healthy };
    let mut weights = Vec::new();
    let mut add = |candidates: crate::host_set::Candidates<'_>, factor: f64| {
        let weight = |position: u32| set.hosts().get(position as usize).map_or(1, Endpoint::weight).max(1);
        let positions: Vec<u32> = (0..candidates.len()).map(|index| candidates.at(index)).collect();
        let total: f64 = positions.iter().map(|position| f64::from(weight(*position))).sum();
        let share = |position: u32| if factor == 0.0 { 1.0 } else { factor / total } * f64::from(weight(position));
        weights.extend(positions.iter().map(|position| (*position, share(*position))));
    };
    // Unlike other policies, hashing takes the weights as they are, however many hosts are healthy.
    let locality_weight = |locality| f64::from(set.configured_weight(locality));
    if locality_weighted && (0..set.localities()).any(|locality| locality_weight(locality) > 0.0) {
        for locality in (0..set.localities()).filter(|locality| locality_weight(*locality) > 0.0) {
            add(set.candidates_in(kind, locality), locality_weight(locality));
        }
    } else {
        add(set.candidates(kind), 0.0);
    }
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.iter_mut().for_each(|(_, weight)| *weight /= total);
    weights
}

fn ring<H: Endpoint>(set: &HostSet<H>, weights: &[(u32, f64)], options: &RingHash) -> Box<[(u64, u32)]> {
    const LIMIT: u64 = 8 * 1024 * 1024;
    let least = weights.iter().map(|(_, weight)| *weight).fold(f64::INFINITY, f64::min);
    if !least.is_finite() || least <= 0.0 {
        return Box::default();
    }
    // As many points per host as the lightest host needs to get a whole number of them.
    let wanted = (least * options.minimum_ring_size as f64).ceil() / least;
    let scale = wanted.min(options.maximum_ring_size.min(LIMIT) as f64);
    let mut points = Vec::with_capacity(scale.ceil() as usize);
    let (mut current, mut target) = (0.0, 0.0);
    let mut key = String::new();
    for (position, weight) in weights {
        let Some(host) = set.hosts().get(*position as usize) else { continue };
        target += scale * weight;
        let mut index = 0u64;
        while current < target {
            key.clear();
            key.push_str(host.hash_key());
            key.push('_');
            key.push_str(&index.to_string());
            let hash = match options.hash_function {
                HashFunction::XxHash => hash_bytes(key.as_bytes(), 0),
                HashFunction::MurmurHash2 => murmur_hash2(key.as_bytes(), STD_HASH_SEED),
            };
            points.push((hash, *position));
            index += 1;
            current += 1.0;
        }
    }
    points.sort_by_key(|(hash, _)| *hash);
    points.into_boxed_slice()
}

fn maglev<H: Endpoint>(set: &HostSet<H>, weights: &[(u32, f64)], options: &Maglev) -> Box<[u32]> {
    struct Row {
        position: u32,
        offset: u64,
        skip: u64,
        weight: f64,
        target: f64,
        next: u64,
    }
    let size = options.table_size.clamp(2, 5_000_011);
    let most = weights.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
    if most <= 0.0 {
        return Box::default();
    }
    let row = |(position, weight): &(u32, f64)| {
        let key = set.hosts().get(*position as usize)?.hash_key().as_bytes();
        let (offset, skip) = (hash_bytes(key, 0) % size, hash_bytes(key, 1) % (size - 1) + 1);
        Some(Row { position: *position, offset, skip, weight: *weight, target: 0.0, next: 0 })
    };
    let mut weights: Vec<(u32, f64)> = weights.to_vec();
    let key = |position: u32| set.hosts().get(position as usize).map(Endpoint::hash_key);
    // The table depends on the order in which hosts take their slots, so that must not depend on theirs.
    weights.sort_by(|a, b| key(a.0).cmp(&key(b.0)));
    let mut rows: Vec<Row> = weights.iter().filter_map(row).collect();
    let mut table = vec![u32::MAX; size as usize];
    let (mut filled, mut round) = (0, 0.0);
    while filled < size {
        round += 1.0;
        for row in &mut rows {
            if filled == size {
                break;
            }
            // A host of the greatest weight gets a slot in every round, the others in proportion.
            if round * row.weight < row.target {
                continue;
            }
            row.target += most;
            loop {
                let slot = row.offset.wrapping_add(row.skip.wrapping_mul(row.next)) % size;
                row.next += 1;
                let Some(slot) = table.get_mut(slot as usize) else { break };
                if *slot == u32::MAX {
                    *slot = row.position;
                    filled += 1;
                    break;
                }
                if row.next > size {
                    // Only a table size that is no prime leads here: take the first free slot.
                    if let Some(free) = table.iter_mut().find(|slot| **slot == u32::MAX) {
                        *free = row.position;
                    }
                    filled += 1;
                    break;
                }
            }
        }
    }
    table.into_boxed_slice()
}

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

fn read<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(source) = bytes.get(at..at + N) {
        word[..N].copy_from_slice(source);
    }
    u64::from_le_bytes(word)
}

fn xx_round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

/// xxHash64: what Envoy hashes headers, cookies, addresses and hosts with.
pub fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let mut at = 0;
    let mut hash = if bytes.len() >= 32 {
        let mut lanes = [seed.wrapping_add(p1).wrapping_add(p2), seed.wrapping_add(p2), seed, seed.wrapping_sub(p1)];
        while at + 32 <= bytes.len() {
            for (index, lane) in lanes.iter_mut().enumerate() {
                *lane = xx_round(*lane, read::<8>(bytes, at + index * 8));
            }
            at += 32;
        }
        let [a, b, c, d] = lanes;
        let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7)).wrapping_add(c.rotate_left(12));
        let sum = sum.wrapping_add(d.rotate_left(18));
        lanes.iter().fold(sum, |hash, lane| (hash ^ xx_round(0, *lane)).wrapping_mul(p1).wrapping_add(p4))
    } else {
        seed.wrapping_add(p5)
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    while at + 8 <= bytes.len() {
        hash = (hash ^ xx_round(0, read::<8>(bytes, at))).rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
        at += 8;
    }
    if at + 4 <= bytes.len() {
        hash = (hash ^ read::<4>(bytes, at).wrapping_mul(p1)).rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
        at += 4;
    }
    for byte in bytes.iter().skip(at) {
        hash = (hash ^ u64::from(*byte).wrapping_mul(p5)).rotate_left(11).wrapping_mul(p1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(p2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(p3);
    hash ^ (hash >> 32)
}

/// MurmurHash2 for 64-bit machines.
pub fn murmur_hash2(bytes: &[u8], seed: u64) -> u64 {
    const MUL: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |value: u64| value ^ (value >> 47);
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(MUL);
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let word = mix(read::<8>(bytes, at).wrapping_mul(MUL)).wrapping_mul(MUL);
        hash = (hash ^ word).wrapping_mul(MUL);
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(MUL);
    }
    mix(mix(hash).wrapping_mul(MUL))
}
