//! Maintains the Endpoints of Services, as [`plan::endpoints::Endpoints`] decides.

use plan::endpoints::Endpoints;
use reflector::Event;

use crate::Context;
use crate::driver::TaskError;
use crate::endpoint_writes::{IN_FLIGHT, Outcome, execute};
use crate::flight::Flight;
use crate::resource::Resource;

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) -> Result<(), TaskError> {
    let mut services = context.services.subscribe();
    let mut endpoints = context.endpoints.subscribe();
    let mut pods = context.pods.subscribe();
    let mut known = Endpoints::new();
    let mut flight: Flight<Outcome> = Flight::new(IN_FLIGHT);
    let mut synced = [false; 3];
    loop {
        let next = if synced == [true; 3] && flight.room() > 0 {
            known.next_look()
        } else {
            None
        };
        tokio::select! {
            biased;
            Some(batch) = services.recv() => for event in batch.iter() {
                match event {
                    Event::Put(service) => known.put_service(service),
                    Event::Delete(service) => known.delete_service(service),
                    Event::Synced(_) => synced[0] = true,
                    Event::Bookmark(_) => {}
                }
            },
            Some(batch) = endpoints.recv() => for event in batch.iter() {
                match event {
                    Event::Put(endpoints) => known.put_endpoints(endpoints),
                    Event::Delete(endpoints) => known.delete_endpoints(endpoints),
                    Event::Synced(version) => {
                        synced[1] = true;
                        known.synced(*version);
                    }
                    Event::Bookmark(version) => known.saw(*version),
                }
            },
            Some(batch) = pods.recv() => for event in batch.iter() {
                match event {
                    Event::Put(pod) => known.put_pod(pod),
                    Event::Delete(pod) => known.delete_pod(pod),
                    Event::Synced(_) => synced[2] = true,
                    Event::Bookmark(_) => {}
                }
            },
            outcome = flight.next() => known.answered(&outcome.action, outcome.answer, context.clock.now()),
            () = context.clock.until(next) => {}
            else => return Err("its reflectors ended".into()),
        }
        while let Some(outcome) = flight.ready() {
            known.answered(&outcome.action, outcome.answer, context.clock.now());
        }
        if synced == [true; 3] && flight.room() > 0 {
            for action in known.plan(context.clock.now(), flight.room()) {
                flight.launch(execute(context.api.clone(), Resource::endpoints(), action));
            }
        }
    }
}
