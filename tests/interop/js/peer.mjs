// A js-libp2p peer (TCP, Noise, Yamux, gossipsub) that a test drives by lines: `node peer.mjs TOPIC`.
// In:  `connect MULTIADDR`, `publish HEX`, `call MULTIADDR PROTOCOL HEX` (one frame of 4-byte length, one frame back).
// Out: `address MULTIADDR`, `connected`, `published`, `answer HEX`, `received HEX`, `error TEXT`. Ends when its input ends.

import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const topic = process.argv[2]
const say = (...words) => process.stdout.write(words.join(' ') + '\n')

const peer = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // loopback is no public network: js-libp2p would not dial it by default
  connectionGater: { denyDialMultiaddr: () => false },
  services: { identify: identify(), pubsub: gossipsub({ heartbeatInterval: 200, allowPublishToZeroTopicPeers: true }) }
})

async function readFrame (stream) {
  let data = Buffer.alloc(0)
  for await (const chunk of stream) {
    data = Buffer.concat([data, chunk.subarray()])
    if (data.length >= 4 && data.length >= 4 + data.readUInt32BE()) return data.subarray(4)
  }
  throw new Error('the stream ended early')
}

const acts = {
  async connect (address) {
    await peer.dial(multiaddr(address))
    say('connected')
  },
  async call (address, protocol, hex) {
    const stream = await peer.dialProtocol(multiaddr(address), protocol)
    const request = Buffer.from(hex, 'hex')
    const size = Buffer.alloc(4)
    size.writeUInt32BE(request.length)
    stream.send(Buffer.concat([size, request]))
    say('answer', (await readFrame(stream)).toString('hex'))
    await stream.close()
  },
  async publish (hex) {
    await peer.services.pubsub.publish(topic, Buffer.from(hex, 'hex'))
    say('published')
  }
}

peer.services.pubsub.addEventListener('message', ({ detail }) => {
  if (detail.topic === topic) say('received', Buffer.from(detail.data).toString('hex'))
})
peer.services.pubsub.subscribe(topic)
say('address', peer.getMultiaddrs()[0].toString())

for await (const line of createInterface({ input: process.stdin })) {
  const [act, ...words] = line.split(' ')
  try {
    await acts[act](...words)
  } catch (error) {
    say('error', String(error).replaceAll('\n', ' '))
  }
}
await peer.stop()
process.exit(0)
