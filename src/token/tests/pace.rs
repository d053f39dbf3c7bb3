//! How many tokens a thread verifies: printed with `--nocapture`, and compared where it matters.

use std::{hint::black_box, time::Duration};

use futures_util::FutureExt as _;
use serde_json::json;

use super::{
    signer::{Signer, good_claims},
    verifying::{SECRET, verifier, verify, with_secrets},
};
use crate::{
    clock::Clock,
    token::{TokenSettings, public_keys},
};

/// For each algorithm; a few milliseconds suffice to see the order of magnitude.
const SPAN: Duration = Duration::from_millis(30);

/// Verifications per second of tokens that differ, and of one that is known.
#[test]
fn a_known_token_is_cheaper_than_any_new_one() {
    let kinds = [
        ("HS256", Signer::hmac(SECRET)),
        ("RS256", Signer::rsa()),
        ("ES256", Signer::p256()),
        ("EdDSA", Signer::ed25519()),
    ];
    for (algorithm, signer) in kinds {
        let settings = match &signer {
            Signer::Hmac(_) => with_secrets(&[SECRET]),
            _ => TokenSettings {
                public_keys: public_keys(&signer.pem()).unwrap(),
                ..TokenSettings::default()
            },
        };
        let verifier = verifier(&settings);
        let tokens: Vec<_> = (0..200)
            .map(|number| {
                let mut claims = good_claims();
                claims["jti"] = number.to_string().into();
                signer.token(&json!({"alg": algorithm}), &claims)
            })
            .collect();
        let new = per_second(|| {
            // The same keys again would change nothing.
            verifier.replace_keys(&TokenSettings::default());
            verifier.replace_keys(&settings);
            tokens.iter().for_each(|token| drop(verify(&verifier, token).unwrap()));
            tokens.len()
        });
        let known = per_second(|| {
            let rights = verifier.verify(black_box(&tokens[0])).now_or_never();
            usize::from(rights.is_some_and(|rights| rights.is_ok()))
        });
        println!("{algorithm}: {new:.0}/s new, {known:.0}/s known");
        assert!(known > new, "{algorithm}: {known} > {new}");
    }
}

fn per_second(mut work: impl FnMut() -> usize) -> f64 {
    let clock = Clock::start();
    let begin = clock.instant();
    let mut done = 0;
    loop {
        done += work();
        let spent = clock.instant() - begin;
        if spent > SPAN {
            return done as f64 / spent.as_secs_f64();
        }
    }
}
