//! Turns events and spans into lines.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::render::{Collector, Entry, Fields};
use super::{Line, Queue};

/// Renders what passes the filter and hands it to the writer.
pub(crate) struct LineLayer {
    queue: Arc<Queue>,
}

/// The fields of a span, kept with it.
struct SpanFields(Fields);

impl LineLayer {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LineLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut collector = Collector::default();
        attributes.record(&mut collector);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(collector.fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut collector = Collector::default();
        values.record(&mut collector);
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            fields.extend(collector.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut collector = Collector::default();
        event.record(&mut collector);
        let spans: Vec<(&'static str, Fields)> = context
            .event_scope(event)
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
            .map(|span| {
                let fields = span.extensions().get().map(|SpanFields(fields)| fields.clone());
                (span.name(), fields.unwrap_or_default())
            })
            .collect();
        let entry = Entry {
            time: SystemTime::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            spans: &spans,
            message: &collector.message,
            fields: &collector.fields,
        };
        let mut line = String::with_capacity(256);
        entry.render(self.queue.layout(), &mut line);
        self.queue.push(Line::Rendered(line));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::log::Layout;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_inside_spans_become_lines() {
        let memory = Memory::default();
        let queue = Queue::start(Layout::Plain, memory.clone()).unwrap();
        let subscriber = tracing_subscriber::registry().with(LineLayer::new(Arc::clone(&queue)));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("pod", uid = "7f", late = tracing::field::Empty);
            span.record("late", 3);
            let cause = io::Error::other("disk on fire");
            span.in_scope(|| {
                tracing::warn!(target: "xds", error = &cause as &dyn std::error::Error, attempt = 2, "lost {}", "it");
            });
        });
        queue.finish();
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let (_time, rest) = text.split_once('\t').unwrap();
        assert_eq!(rest, "warn\txds:pod{uid=\"7f\" late=3}\tlost it\terror=disk on fire attempt=2\n");
    }
}
