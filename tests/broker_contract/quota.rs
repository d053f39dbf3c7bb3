//! What a process adds to Redis is bounded, for each of its publishers.

use wsbcast::{
    broker::{Broker, Message, Principal, PublishError, Receipt},
    limits::CHANNELS_BEGUN_MAX,
};

use crate::{
    Backend, RedisServer,
    process::{Process, keyed, offset, run},
};

/// What publishing to so many channels came to; a thousand of them on their way at a time.
async fn to_all(
    broker: &dyn Broker,
    who: Principal,
    names: &[String],
) -> Vec<Result<Receipt, PublishError>> {
    let mut answers = Vec::new();
    for some in names.chunks(1000) {
        let publishes = some.iter().map(|name| {
            let message = keyed(name, "key", "x");
            broker.publish(Message { who, key: None, ..message })
        });
        answers.extend(futures_util::future::join_all(publishes).await);
    }
    answers
}

#[test]
fn a_publisher_of_ever_new_channels_is_refused_and_whoever_else_publishes_goes_on() {
    run(async {
        let backend = Backend::Redis(RedisServer::start());
        let process = Process::start(backend.settings(), 1).await;
        let own = CHANNELS_BEGUN_MAX / 4 * 3;
        let names: Vec<_> = (0..own + 2000).map(|number| format!("c{number}")).collect();
        let anonymous = to_all(&*process.shards[0], Principal::Anonymous, &names).await;
        let begun = anonymous.iter().filter(|answer| answer.is_ok()).count();
        // What was on its way when the last one counted went through, too.
        assert!((own..own + 1000).contains(&begun), "{begun} of {own}");
        assert_eq!(anonymous.last(), Some(&Err(PublishError::ChannelsFull)));
        let Backend::Redis(server) = &backend else { unreachable!("it is one") };
        let keys: usize = server.cli(&["DBSIZE"]).parse().unwrap();
        assert!(keys <= 2 * begun + 1, "{keys}: nothing of the others, but the bridge's lease");
        let again = to_all(&*process.shards[0], Principal::Anonymous, &names[..10]).await;
        assert!(again.into_iter().all(|answer| offset(answer) == 2), "those there are go on");
        let unheard = &names[names.len() - 1..];
        let api = to_all(&*process.shards[0], Principal::Api, unheard).await;
        assert_eq!(offset(api[0].clone()), 1, "others begin channels");
    });
}
