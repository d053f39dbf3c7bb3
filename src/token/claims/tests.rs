//! Every claim, right and wrong in turn.

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn with(claims: &str, rules: &ClaimRules) -> Result<Rights, TokenError> {
    let claims: Claims = serde_json::from_str(claims).unwrap();
    claims.check(rules, NOW)
}

/// The rights given by `claims` beside a good `exp`.
fn also(claims: &str) -> Result<Rights, TokenError> {
    with(&format!(r#"{{"exp":1000600,{claims}}}"#), &ClaimRules::default())
}

#[track_caller]
fn hint(checked: Result<Rights, TokenError>) -> String {
    checked.unwrap_err().hint()
}

#[test]
fn good_claims_become_rights() {
    let own = r#""wsbcast":{"subscribe":["news.*","b"],"publish":["b"],"more":1}"#;
    let rights = also(&format!(r#""sub":"user:7","jti":"j","iat":"x","other":[],{own}"#)).unwrap();
    assert!(rights.subscribe.covers("news.eu") && rights.subscribe.covers("b"));
    assert!(rights.publish.covers("b") && !rights.publish.covers("news.eu"));
    assert_eq!(rights.sub.as_deref(), Some("user:7"));
    assert_eq!(rights.jti.as_deref(), Some("j"));
    assert_eq!((rights.expires_at, rights.verified_at), (Some(1_000_600), 1_000_000));
}

#[test]
fn a_missing_list_gives_nothing() {
    for claims in [r#""a":1"#, r#""wsbcast":{}"#, r#""wsbcast":{"subscribe":[]}"#] {
        let rights = also(claims).unwrap();
        assert!(rights.subscribe.is_empty() && rights.publish.is_empty(), "{claims}");
    }
}

#[test]
fn exp_has_no_leeway_and_is_required() {
    let rules = ClaimRules::default();
    for (exp, expires_at) in [("1000001", 1_000_001), ("1000000.5", 1_000_000), ("1e300", u64::MAX)]
    {
        let rights = with(&format!(r#"{{"exp":{exp}}}"#), &rules).unwrap();
        assert_eq!(rights.expires_at, Some(expires_at), "{exp}");
    }
    for (exp, ago) in [("1000000", "1 s"), ("999820", "3 min"), ("0", "11 days"), ("-5", "11 days")]
    {
        assert_eq!(
            hint(with(&format!(r#"{{"exp":{exp}}}"#), &rules)),
            format!("expired {ago} ago")
        );
    }
    assert_eq!(hint(with(r#"{"exp":-1e300}"#, &rules)), "expired 213503982334601 days ago");
    for exp in [r#""1000600""#, "null", "[]", "true", "1e999"] {
        let told = hint(with(&format!(r#"{{"exp":{exp}}}"#), &rules));
        assert_eq!(told, "the claim exp is no number of seconds since 1970", "{exp}");
    }
    assert!(hint(with("{}", &rules)).starts_with("the claim exp is missing"));
    let lenient = ClaimRules { allow_no_exp: true, ..rules };
    assert_eq!(with("{}", &lenient).unwrap().expires_at, None);
    assert!(hint(with(r#"{"exp":1}"#, &lenient)).starts_with("expired"));
}

#[test]
fn nbf_may_be_ahead_by_its_leeway() {
    for nbf in ["0", "1000000", "1000030", "-1e300"] {
        assert!(also(&format!(r#""nbf":{nbf}"#)).is_ok(), "{nbf}");
    }
    assert_eq!(hint(also(r#""nbf":1000030.5"#)), "not valid before 30 s from now");
    assert!(hint(also(r#""nbf":1e300"#)).starts_with("not valid before"));
    assert_eq!(hint(also(r#""nbf":"x""#)), "the claim nbf is no number of seconds since 1970");
}

#[test]
fn the_issuer_must_match_when_one_is_given() {
    assert!(also(r#""iss":"anyone""#).is_ok());
    let rules =
        ClaimRules { issuer: Some("me".to_owned()), allow_no_exp: true, ..ClaimRules::default() };
    assert!(with(r#"{"iss":"me"}"#, &rules).is_ok());
    assert!(hint(with("{}", &rules)).starts_with("the claim iss is missing"));
    assert_eq!(hint(with(r#"{"iss":["me"]}"#, &rules)), "the claim iss is no text");
    let told = hint(with(r#"{"iss":"you"}"#, &rules));
    assert_eq!(told, "issuer is \"you\", which is not accepted here");
}

/// A token for somebody is not for a server that does not say who it is.
#[test]
fn the_audience_must_be_this_server() {
    let told = hint(also(r#""aud":"shop""#));
    assert_eq!(told, "audience is \"shop\", which this server is not");
    let rules =
        ClaimRules { audience: Some("me".to_owned()), allow_no_exp: true, ..ClaimRules::default() };
    assert!(with(r#"{"aud":"me"}"#, &rules).is_ok());
    assert!(with(r#"{"aud":["you","me"]}"#, &rules).is_ok());
    assert!(hint(with("{}", &rules)).starts_with("the claim aud is missing"));
    assert_eq!(
        hint(with(r#"{"aud":["a","b"]}"#, &rules)),
        "audience is \"a, b\", which this server is not"
    );
    for aud in ["7", "null", r#"["me",7]"#, "{}"] {
        let told = hint(with(&format!(r#"{{"aud":{aud}}}"#), &rules));
        assert_eq!(told, "the claim aud is no text and no list of texts", "{aud}");
    }
    assert!(with(r#"{"aud":[]}"#, &rules).is_err());
}

#[test]
fn sub_and_jti_are_short_texts() {
    for claim in ["sub", "jti"] {
        let longest = "x".repeat(TOKEN_TEXT_BYTES_MAX);
        assert!(also(&format!(r#""{claim}":"{longest}""#)).is_ok());
        let told = hint(also(&format!(r#""{claim}":"{longest}x""#)));
        assert_eq!(told, format!("the claim {claim} is longer than 256 bytes"));
        for value in ["7", "null", "[]"] {
            let told = hint(also(&format!(r#""{claim}":{value}"#)));
            assert_eq!(told, format!("the claim {claim} is no text"));
        }
    }
}

#[test]
fn patterns_of_the_wrong_form_are_refused() {
    for (own, told) in [
        ("7", "the claim wsbcast is no object whose members stand once"),
        (
            r#"{"publish":[],"publish":[]}"#,
            "the claim wsbcast is no object whose members stand once",
        ),
        (r#"{"subscribe":"a"}"#, "the claim wsbcast.subscribe is no list of texts"),
        (r#"{"publish":["a",7]}"#, "the claim wsbcast.publish is no list of texts"),
        (r#"{"publish":null}"#, "the claim wsbcast.publish is no list of texts"),
        (r#"{"subscribe":["a b"]}"#, "the claim wsbcast.subscribe holds \"a b\": a pattern is"),
        (r#"{"subscribe":["*a"]}"#, "the claim wsbcast.subscribe holds \"*a\": a pattern is"),
    ] {
        let hint = hint(also(&format!(r#""wsbcast":{own}"#)));
        assert!(hint.starts_with(told), "{own}: {hint}");
    }
    let most = vec![r#""a""#; TOKEN_PATTERNS_MAX].join(",");
    assert!(also(&format!(r#""wsbcast":{{"publish":[{most}]}}"#)).is_ok());
    let told = hint(also(&format!(r#""wsbcast":{{"publish":[{most},"a"]}}"#)));
    assert_eq!(told, "the claim wsbcast.publish has more than 1000 patterns");
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    for claims in [r#"{"exp":1,"exp":2}"#, r#"{"a":1,"b":2,"\u0061":3}"#] {
        let refused = serde_json::from_str::<Claims>(claims).unwrap_err();
        assert!(refused.to_string().contains("twice"), "{refused}");
    }
}
