//! What is started before what.

use super::{ApplicationName, Refusal};

/// The applications to be started for `wanted`, each behind all that it depends on, in the order in
/// which they are named (APP-006). `depends_on` answers what one depends on; nothing for one that is
/// not loaded.
///
/// # Errors
///
/// [`Refusal::NotLoaded`] and [`Refusal::Circular`], whichever is met first.
pub fn start_order<'a, E>(
    wanted: &'a [ApplicationName],
    depends_on: impl Fn(&ApplicationName) -> Option<&'a [ApplicationName]>,
) -> Result<Vec<ApplicationName>, Refusal<E>> {
    let mut order: Vec<ApplicationName> = Vec::new();
    // From one that is wanted to the one that is looked at, each with those that it waits for still.
    // A stack of our own: how deep it gets is the host's to say, not the thread's.
    let mut path: Vec<(&ApplicationName, &[ApplicationName])> = Vec::new();
    for name in wanted {
        let mut next = Some(name);
        loop {
            if let Some(name) = next.take()
                && !order.contains(name)
            {
                if let Some(begin) = path.iter().position(|(above, _)| *above == name) {
                    let circle = path[begin..].iter().map(|(name, _)| (*name).clone());
                    return Err(Refusal::Circular(circle.collect()));
                }
                let below = depends_on(name).ok_or_else(|| Refusal::NotLoaded(name.clone()))?;
                path.push((name, below));
            }
            match path.last_mut() {
                None => break,
                Some((_, below)) => {
                    if let Some((first, rest)) = below.split_first() {
                        *below = rest;
                        next = Some(first);
                    } else if let Some((done, _)) = path.pop() {
                        order.push(done.clone());
                    }
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type World = BTreeMap<ApplicationName, Vec<ApplicationName>>;

    fn names(text: &str) -> Vec<ApplicationName> {
        text.chars().map(|name| name.to_string().into()).collect()
    }

    fn world(edges: &[(&str, &str)]) -> World {
        edges.iter().map(|(name, below)| ((*name).into(), names(below))).collect()
    }

    fn order(world: &World, wanted: &str) -> Result<String, Refusal<()>> {
        let found = start_order(&names(wanted), |name| world.get(name).map(Vec::as_slice))?;
        Ok(found.iter().map(ApplicationName::as_str).collect())
    }

    #[test]
    fn dependencies_come_first_each_once_and_in_the_order_of_their_names() {
        let world = world(&[("a", ""), ("b", "a"), ("c", ""), ("d", "cb"), ("e", "dx")]);
        for (wanted, found) in [("", ""), ("a", "a"), ("d", "cabd"), ("bd", "abcd"), ("aa", "a")] {
            assert_eq!(order(&world, wanted), Ok(found.to_owned()), "{wanted}");
        }
        assert_eq!(order(&world, "ae"), Err(Refusal::NotLoaded("x".into())));
        assert_eq!(order(&world, "z"), Err(Refusal::NotLoaded("z".into())));
    }

    /// All graphs of three applications: an order is given exactly where there is one, and is one.
    #[test]
    fn every_graph_of_three_has_an_order_or_a_circle() {
        let pairs: Vec<(usize, usize)> = (0..3).flat_map(|a| (0..3).map(move |b| (a, b))).collect();
        let (mut ordered, mut circular) = (0, 0);
        for graph in 0..1_u32 << pairs.len() {
            let edges: Vec<(usize, usize)> = (0..pairs.len())
                .filter(|bit| graph >> bit & 1 == 1)
                .map(|bit| pairs[bit])
                .collect();
            let below = |at: usize| {
                let below = edges.iter().filter(|(from, _)| *from == at);
                below.map(|(_, to)| ["a", "b", "c"][*to]).collect::<String>()
            };
            let [a, b, c] = [0, 1, 2].map(below);
            let world = world(&[("a", &a), ("b", &b), ("c", &c)]);
            match order(&world, "abc") {
                Ok(found) => {
                    ordered += 1;
                    assert_eq!(found.len(), 3);
                    for (name, below) in &world {
                        let at = |name: &ApplicationName| found.find(name.as_str());
                        assert!(below.iter().all(|it| at(it) < at(name)), "{world:?} {found}");
                    }
                }
                Err(Refusal::Circular(circle)) => {
                    circular += 1;
                    for (at, name) in circle.iter().enumerate() {
                        let next = &circle[(at + 1) % circle.len()];
                        assert!(world[name].contains(next), "{world:?} {circle:?}");
                    }
                }
                Err(other) => panic!("{world:?}: {other:?}"),
            }
        }
        // Labelled acyclic graphs of three: 25.
        assert_eq!((ordered, circular), (25, 512 - 25));
    }
}
