// usage: node read_results.mjs BOOTSTRAP REGISTRY_URL PREFIX COUNT
// Reads the results topic from its start, decodes each record with the schema that its prefix names, as the registry
// gives it, and prints one JSON line per result whose request id begins with PREFIX, until there were COUNT of them.
// Bytes are hexadecimal, integers of 64 bits are numbers.

import avro from 'avsc'
import kafkajs from 'kafkajs'

const TOPIC = 'isos.inference.results.v1'
const [bootstrap, registry, prefix, count] = process.argv.slice(2)
const types = new Map()

async function typeOf (id) {
  if (!types.has(id)) {
    const answer = await fetch(`${registry}/schemas/ids/${id}`)
    const body = await answer.json()
    if (!answer.ok) throw new Error(`schema ${id}: ${body.error_code} ${body.message}`)
    types.set(id, avro.Type.forSchema(JSON.parse(body.schema)))
  }
  return types.get(id)
}

function plain (_name, value) {
  if (value && value.type === 'Buffer') return Buffer.from(value.data).toString('hex')
  return value
}

function headersOf (headers) {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Buffer.from(value).toString('hex')]))
}

let left = Number(count)

async function print (partition, message) {
  if (message.value[0] !== 0) throw new Error(`offset ${message.offset} does not begin with a zero byte`)
  const id = message.value.readInt32BE(1)
  const result = (await typeOf(id)).fromBuffer(message.value.subarray(5))
  if (!result.request_id.startsWith(prefix)) return
  const offset = Number(message.offset)
  const line = { partition, offset, key: message.key.toString(), headers: headersOf(message.headers), result }
  process.stdout.write(JSON.stringify(line, plain) + '\n')
  if (--left === 0) setImmediate(() => consumer.disconnect())
}

function fail (error) {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
}

const kafka = new kafkajs.Kafka({ clientId: 'results-reader', brokers: [bootstrap], logLevel: kafkajs.logLevel.NOTHING })
const consumer = kafka.consumer({ groupId: `results-reader-${process.pid}-${Date.now()}`, maxWaitTimeInMs: 100 })
consumer.on(consumer.events.CRASH, event => fail(event.payload.error))
await consumer.connect()
await consumer.subscribe({ topics: [TOPIC], fromBeginning: true })
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ partition, message }) => {
    if (left === 0) return
    await print(partition, message).catch(fail)
  }
})
