//! Whatever the order of snapshots, answers, refusals and reconnects: a client ends up with what is served.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Debug, Clone)]
enum Step {
    /// A new snapshot: for each name its content, if it exists.
    Serve([Option<u8>; 5]),
    /// The client answers the last response.
    Answer { refuses: bool },
    /// The client asks for names.
    Subscribe(usize),
    /// The stream breaks; the client begins another with what it holds.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let content = prop_oneof![Just(None), (0..3_u8).prop_map(Some)];
    prop_oneof![
        3 => proptest::array::uniform5(content).prop_map(Step::Serve),
        3 => any::<bool>().prop_map(|refuses| Step::Answer { refuses }),
        1 => (0..NAMES.len()).prop_map(Step::Subscribe),
        1 => Just(Step::Reconnect),
    ]
}

/// A client that does as it is told, and both ends of its stream.
struct Model {
    is_wildcard: bool,
    snapshot: Arc<Snapshot>,
    session: Session,
    wanted: BTreeMap<String, ()>,
    held: BTreeMap<String, String>,
    unanswered: Option<DeltaDiscoveryResponse>,
}

impl Model {
    fn new(is_wildcard: bool) -> Self {
        let snapshot = snapshot(1, &[]);
        let mut model = Self {
            is_wildcard,
            session: Session::new(Arc::clone(&snapshot), 100),
            snapshot,
            wanted: BTreeMap::new(),
            held: BTreeMap::new(),
            unanswered: None,
        };
        model.connect();
        model
    }

    fn connect(&mut self) {
        self.session = Session::new(Arc::clone(&self.snapshot), 100);
        self.unanswered = None;
        let star: &[&str] = if self.is_wildcard { &[] } else { &["*"] };
        let mut request = subscribe(star, star);
        request.initial_resource_versions = self.held.clone().into_iter().collect();
        let wanted = self.wanted.keys().filter(|name| !self.held.contains_key(*name));
        request.initial_resource_versions.extend(wanted.map(|name| (name.clone(), String::new())));
        self.session.receive(request).unwrap();
        self.read();
    }

    /// Takes the responses that are due; there is never a second one before the first is answered.
    fn read(&mut self) {
        while let Some(response) = self.session.push() {
            assert!(self.unanswered.is_none(), "two unanswered responses");
            for resource in &response.resources {
                self.held.insert(resource.name.clone(), resource.version.clone());
            }
            for name in &response.removed_resources {
                self.held.remove(name);
            }
            self.unanswered = Some(response);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Serve(content) => {
                let content: Vec<(&str, String)> = NAMES
                    .into_iter()
                    .zip(content)
                    .filter_map(|(name, content)| Some((name, content?.to_string())))
                    .collect();
                let content: Vec<(&str, &str)> = content.iter().map(|(name, content)| (*name, &**content)).collect();
                self.snapshot = snapshot(self.snapshot.version + 1, &content);
                self.session.update(Arc::clone(&self.snapshot));
            }
            Step::Answer { refuses } => {
                if let Some(response) = self.unanswered.take() {
                    let answer = if refuses { nack(&response, "no") } else { ack(&response) };
                    self.session.receive(answer).unwrap();
                }
            }
            Step::Subscribe(index) if !self.is_wildcard => {
                let name = NAMES[index];
                if self.wanted.insert(name.to_owned(), ()).is_none() {
                    self.session.receive(subscribe(&[name], &[])).unwrap();
                }
            }
            Step::Subscribe(_) => {}
            Step::Reconnect => self.connect(),
        }
        self.read();
    }

    fn expected(&self) -> BTreeMap<String, String> {
        let served = self.snapshot.types.values().flat_map(|resources| resources.entries());
        let of_interest = served.filter(|(name, _)| self.is_wildcard || self.wanted.contains_key(&***name));
        of_interest.map(|(name, entry)| (name.to_string(), entry.version.to_string())).collect()
    }
}

proptest! {
    #[test]
    fn a_client_ends_up_with_what_is_served(
        is_wildcard in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut model = Model::new(is_wildcard);
        for step in steps {
            model.take(step);
            prop_assert!(model.session.told() <= model.snapshot.version);
        }
        // At most one response is outstanding and one more is due after it.
        for _ in 0..2 {
            model.take(Step::Answer { refuses: false });
        }
        prop_assert_eq!(&model.held, &model.expected());
        prop_assert_eq!(model.session.told(), model.snapshot.version);
        prop_assert_eq!(model.session.push(), None);
    }
}
