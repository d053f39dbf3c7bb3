//! The origins of pages: `--allowed-origins`, as a list or as the star.
//!
//! The form of an origin is defined by `http::origins`; here the values are put together.

use super::{args, checker::Checker};
use crate::{
    http::origins::{OriginPattern, Origins},
    limits::ORIGINS_MAX,
};

const NAME: &str = "allowed-origins";

/// Gathers the origins.
pub(super) fn check(checker: &mut Checker, typed: &args::OriginOptions) -> Origins {
    let typed = &typed.allowed_origins;
    if typed.len() > ORIGINS_MAX {
        checker.refuse(NAME, typed.len(), format!("at most {ORIGINS_MAX} origins"));
        return Origins::default();
    }
    let mut listed = Vec::new();
    let mut has_star = false;
    for text in typed {
        match OriginPattern::parse(text) {
            Ok(OriginPattern::Every) => has_star = true,
            Ok(OriginPattern::One(origin)) => listed.push(origin),
            Err(reason) => checker.refuse(NAME, text, reason),
        }
    }
    if has_star && typed.len() > 1 {
        checker.refuse(NAME, "*", "stands alone: with it every origin is allowed");
    }
    if has_star { Origins::default() } else { Origins::listed(listed) }
}
