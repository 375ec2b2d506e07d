//! A static radix trie over byte strings: the values of all keys that are a prefix of a given text, in one walk.
//!
//! Built once, never changed. Children of a node lie side by side, so that a step is a look at their first bytes and a
//! comparison of one label. Building and walking use no recursion: keys come from outside and may be long.

/// Keys with their values.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    nodes: Box<[Node]>,
    /// First byte of each node's label, by node.
    firsts: Box<[u8]>,
    labels: Box<[u8]>,
    values: Box<[u32]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    /// What follows the first byte, by which the node was chosen (the root has none).
    label: u32,
    label_len: u32,
    values: u32,
    values_len: u32,
    children: u32,
    children_len: u16,
    /// The children's first bytes have no gap: the child is found by subtracting the lowest.
    dense: bool,
    lowest: u8,
}

/// A part of the sorted keys that becomes one node.
struct Pending {
    node: usize,
    from: usize,
    to: usize,
    depth: usize,
}

impl Trie {
    /// Builds. Values of equal keys keep their order. `None` if there are more than 4 G of anything.
    pub(crate) fn build(mut keys: Vec<(Vec<u8>, u32)>) -> Option<Trie> {
        if keys.is_empty() {
            return Some(Trie::default());
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        let mut nodes = vec![Node::default()];
        let mut firsts = vec![0];
        let (mut labels, mut values) = (Vec::new(), Vec::with_capacity(keys.len()));
        let mut pending = vec![Pending { node: 0, from: 0, to: keys.len(), depth: 0 }];
        while let Some(Pending { node, from, to, depth }) = pending.pop() {
            let group = keys.get(from..to)?;
            let (first, last) = (&group.first()?.0, &group.last()?.0);
            // The byte that chose the node is common to the group, and is not part of the label.
            let depth = if node == 0 { 0 } else { depth + 1 };
            let end = depth + common(first.get(depth..)?, last.get(depth..)?);
            let mut made = Node {
                label: u32::try_from(labels.len()).ok()?,
                label_len: u32::try_from(end - depth).ok()?,
                values: u32::try_from(values.len()).ok()?,
                children: u32::try_from(nodes.len()).ok()?,
                ..Node::default()
            };
            labels.extend_from_slice(first.get(depth..end)?);
            let here = group.iter().take_while(|(key, _)| key.len() == end);
            values.extend(here.map(|(_, value)| *value));
            made.values_len = u32::try_from(values.len()).ok()? - made.values;
            let mut at = from + made.values_len as usize;
            while at < to {
                let byte = *keys.get(at)?.0.get(end)?;
                let size = keys.get(at..to)?.iter().take_while(|(key, _)| key.get(end) == Some(&byte)).count();
                pending.push(Pending { node: nodes.len(), from: at, to: at + size, depth: end });
                nodes.push(Node::default());
                firsts.push(byte);
                at += size;
            }
            let children = firsts.get(made.children as usize..)?;
            made.children_len = u16::try_from(children.len()).ok()?;
            if let (Some(low), Some(high)) = (children.first(), children.last()) {
                made.dense = usize::from(high - low) + 1 == children.len();
                made.lowest = *low;
            }
            *nodes.get_mut(node)? = made;
        }
        Some(Trie { nodes: nodes.into(), firsts: firsts.into(), labels: labels.into(), values: values.into() })
    }

    /// Calls `visit` with the length and the values of every key that `text` starts with, shortest first. With `FOLD` the
    /// text counts in lower case; the keys must be in lower case then.
    #[inline]
    pub(crate) fn walk<'t, const FOLD: bool>(&'t self, text: &[u8], mut visit: impl FnMut(usize, &'t [u32])) {
        let Some(mut node) = self.nodes.first() else { return };
        let mut rest = text;
        loop {
            if node.label_len != 0 {
                let Some(label) = part(&self.labels, node.label, node.label_len) else { return };
                let Some((start, after)) = rest.split_at_checked(label.len()) else { return };
                if !(if FOLD { start.eq_ignore_ascii_case(label) } else { start == label }) {
                    return;
                }
                rest = after;
            }
            if node.values_len != 0
                && let Some(values) = part(&self.values, node.values, node.values_len)
            {
                visit(text.len() - rest.len(), values);
            }
            let Some((byte, after)) = rest.split_first() else { return };
            let byte = if FOLD { byte.to_ascii_lowercase() } else { *byte };
            let Some(child) = self.child(node, byte) else { return };
            node = child;
            rest = after;
        }
    }

    #[inline]
    fn child(&self, node: &Node, byte: u8) -> Option<&Node> {
        let at = if node.dense {
            let at = u32::from(byte.wrapping_sub(node.lowest));
            (at < u32::from(node.children_len)).then_some(at)?
        } else {
            let firsts = part(&self.firsts, node.children, node.children_len.into())?;
            memchr::memchr(byte, firsts)? as u32
        };
        self.nodes.get((node.children + at) as usize)
    }
}

#[inline]
fn part<T>(all: &[T], start: u32, length: u32) -> Option<&[T]> {
    all.get(start as usize..)?.get(..length as usize)
}

/// Length of the common start.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(keys: &[&str]) -> Trie {
        Trie::build(keys.iter().enumerate().map(|(at, key)| (key.as_bytes().to_vec(), at as u32)).collect()).unwrap()
    }

    fn found<const FOLD: bool>(trie: &Trie, text: &str) -> Vec<(usize, Vec<u32>)> {
        let mut found = Vec::new();
        trie.walk::<FOLD>(text.as_bytes(), |depth, values| found.push((depth, values.to_vec())));
        found
    }

    #[test]
    fn all_prefixes_in_order() {
        let keys = ["/", "/a", "/ab", "/b", "", "/ab", "/abc/def", "/zz"];
        let trie = trie(&keys);
        for text in ["", "/", "/a", "/ab", "/abc/de", "/abc/def", "/abc/defg", "/c", "x", "/z", "/zz", "/zzz"] {
            let actual: Vec<u32> = found::<false>(&trie, text).into_iter().flat_map(|(_, values)| values).collect();
            let mut expected: Vec<u32> =
                (0..keys.len()).filter(|at| text.starts_with(keys[*at])).map(|at| at as u32).collect();
            expected.sort_by_key(|at| (keys[*at as usize].len(), *at));
            assert_eq!(actual, expected, "{text:?}");
        }
    }

    #[test]
    fn lengths_are_those_of_the_keys() {
        let trie = trie(&["/", "/ab"]);
        assert_eq!(found::<false>(&trie, "/abc"), [(1, vec![0]), (3, vec![1])]);
    }

    #[test]
    fn folding() {
        let trie = trie(&["/abc", "/x"]);
        assert_eq!(found::<true>(&trie, "/ABc/D"), [(4, vec![0])]);
        assert_eq!(found::<false>(&trie, "/ABc/D"), []);
    }

    #[test]
    fn deep_and_wide() {
        let deep: Vec<String> = (0..5000).map(|n| "a".repeat(n)).collect();
        let refs: Vec<&str> = deep.iter().map(String::as_str).collect();
        assert_eq!(found::<false>(&trie(&refs), &"a".repeat(6000)).len(), 5000);
        let wide: Vec<(Vec<u8>, u32)> = (0..=255u8).map(|byte| (vec![byte, 1], u32::from(byte))).collect();
        let trie = Trie::build(wide).unwrap();
        let mut hits = 0;
        for byte in 0..=255u8 {
            trie.walk::<false>(&[byte, 1, 2], |depth, values| {
                assert_eq!((depth, values), (2, &[u32::from(byte)][..]));
                hits += 1;
            });
        }
        assert_eq!(hits, 256);
    }

    #[test]
    fn nothing() {
        assert!(found::<false>(&Trie::default(), "/a").is_empty());
    }
}
