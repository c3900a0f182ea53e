//! Live updates of an order.

use super::stories::CONFIRMED;
use crate::shared;
use anyhow::Result;
use http::{Method, StatusCode};
use std::collections::BTreeSet;
use tests::customer::{Customer, NewOrder};
use tests::live::{Event, Live, Transport, open_socket};
use tests::outcome::Outcome;

/// Reads until everything that happens to a confirmed order has been shown, in the snapshot or after it.
async fn until_all_is_shown(live: &mut Live) -> Result<Vec<Event>> {
    let mut events = vec![live.next().await?];
    let first = &events[0];
    anyhow::ensure!(first.event == "snapshot", "the first event is {first:?}");
    let entries = first.data["entries"].as_array().cloned().unwrap_or_default();
    let mut shown: BTreeSet<String> =
        entries.iter().filter_map(|entry| Some(entry["event"].as_str()?.to_owned())).collect();
    while !CONFIRMED.iter().all(|event| shown.contains(*event)) {
        let event = live.next().await?;
        shown.insert(event.event.clone());
        events.push(event);
    }
    Ok(events)
}

#[tokio::test]
async fn an_order_is_seen_step_by_step() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    for transport in Transport::ALL {
        // Its payment takes two seconds, so that somebody watches before it is decided.
        let order = ada.order(&NewOrder::of(&[("COFFEE-1KG", 1)]).paid_with("tok_slow")).await?;
        let mut live = Live::watch(transport, &ada, order.order_id, None).await?;
        let events = until_all_is_shown(&mut live).await?;
        let confirmed =
            events.iter().find(|event| event.event == "order.confirmed").expect("seen as it happened");
        assert_eq!(confirmed.data["topic"], "order-events");
        assert_eq!(confirmed.data["data"]["status"], "CONFIRMED");
        for event in &events[1..] {
            assert!(
                event.data["data"].get("payment_token").is_none(),
                "only the named fields are sent: {event:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_was_cut_off_goes_on_where_it_stood() -> Outcome {
    let fnhost = shared().await?;
    let ada = Customer::register(&fnhost.client()?).await?;
    let order = ada.order(&NewOrder::of(&[("COFFEE-1KG", 1)]).paid_with("tok_slow")).await?;
    let mut live = Live::watch(Transport::WebSocket, &ada, order.order_id, None).await?;
    let all = until_all_is_shown(&mut live).await?;
    drop(live);
    for transport in Transport::ALL {
        for (place, cut) in all.iter().enumerate() {
            let mut live = Live::watch(transport, &ada, order.order_id, Some(&cut.id)).await?;
            for expected in &all[place + 1..] {
                let event = live.next().await?;
                let same = (&event.event, &event.id) == (&expected.event, &expected.id);
                assert!(same && event.data == expected.data, "after {}: {event:?}, not {expected:?}", cut.id);
            }
        }
        // What it names is of no stream that is known: it begins anew.
        let mut live = Live::watch(transport, &ada, order.order_id, Some("nonsense")).await?;
        assert_eq!(live.next().await?.event, "snapshot");
    }
    Ok(())
}

#[tokio::test]
async fn only_who_may_see_an_order_may_watch_it() -> Outcome {
    let fnhost = shared().await?;
    let client = fnhost.client()?;
    let (ada, eve) = (Customer::register(&client).await?, Customer::register(&client).await?);
    let order = ada.order(&NewOrder::of(&[("COFFEE-1KG", 1)])).await?;
    let path = format!("/orders/{}/events", order.order_id);
    assert_eq!(eve.ask(Method::GET, &path, None).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(ada.ask(Method::POST, &path, None).await?.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(client.get(&path).await?.status, StatusCode::UNAUTHORIZED);
    assert_eq!(eve.ask(Method::HEAD, &path, None).await?.status, StatusCode::NOT_FOUND);
    let head = ada.ask(Method::HEAD, &path, None).await?;
    assert_eq!((head.status, head.header("content-type")), (StatusCode::OK, "text/event-stream"));
    assert!(head.body.is_empty());

    let (ada, eve) = (&ada.token, &eve.token);
    let own = format!("http://{}", client.address());
    // subprotocols, origin, status of the refusal
    let cases = [
        (format!("fnhost.v1, bearer.{eve}"), None, Some(StatusCode::NOT_FOUND)),
        ("fnhost.v1".to_owned(), None, Some(StatusCode::UNAUTHORIZED)),
        ("fnhost.v1, bearer.nonsense".to_owned(), None, Some(StatusCode::UNAUTHORIZED)),
        (format!("bearer.{ada}"), None, Some(StatusCode::BAD_REQUEST)),
        (format!("fnhost.v1, bearer.{ada}"), Some("http://evil.example"), Some(StatusCode::FORBIDDEN)),
        (format!("fnhost.v1, bearer.{ada}"), Some(own.as_str()), None),
    ];
    for (protocols, origin, refused) in cases {
        let opened = open_socket(client.address(), &path, &protocols, origin).await?;
        assert_eq!(opened.err(), refused, "{protocols} of {origin:?}");
    }
    Ok(())
}
