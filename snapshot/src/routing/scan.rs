//! A naive specification of which route wins, for tests and fuzzing.

use super::{Match, PathFault, PathPattern, Request, explain::consider, host, path, readings};

/// Of all matching routes the one with the greatest rank, for every reading of the path.
pub(crate) fn scan(routes: &[Match], request: &impl Request) -> Result<Option<usize>, PathFault> {
    if routes.iter().all(|route| route.path == PathPattern::Any) {
        return Ok(one(routes, request, b"/"));
    }
    let mut all = Vec::new();
    let path = path::plain(request.path())?;
    readings::each_reading(&path, |reading| {
        all.push(one(routes, request, reading));
        true
    })?;
    all.dedup();
    if all.len() > 1 { Err(PathFault::Ambiguous) } else { Ok(all[0]) }
}

/// The same for one literal path.
pub(crate) fn one(routes: &[Match], request: &impl Request, path: &[u8]) -> Option<usize> {
    let mut lower = Vec::new();
    let host = host::read(request.host(), &mut lower);
    let ranks = routes
        .iter()
        .enumerate()
        .filter_map(|(place, route)| Some((consider(place, route, request, host, path).ok()?, place)));
    ranks.max().map(|(_, place)| place)
}
