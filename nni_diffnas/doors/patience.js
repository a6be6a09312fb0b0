// Loaded into NNI's manager by `nni_repairs.await_tuner`: a tuner gets two minutes to connect, not ten seconds.
const plain = global.setTimeout;
const patient = (act, delay, ...rest) =>
  plain(act, String(act).includes('Tuner did not connect') ? Math.max(delay, 120000) : delay, ...rest);
// With what `util.promisify` asks of it.
global.setTimeout = Object.defineProperties(patient, Object.getOwnPropertyDescriptors(plain));
