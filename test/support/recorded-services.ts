import type { Service, ServiceSink } from '../../src/expose/service.ts';

/** Publishes nothing, and knows what was asked. */
export class RecordedServices implements ServiceSink {
  readonly present: Set<Service> = new Set();
  readonly causes: string[] = [];

  appear(service: Service): void {
    this.present.add(service);
  }

  vanish(service: Service, cause: 'closed' | 'policy'): void {
    this.present.delete(service);
    this.causes.push(cause);
  }
}
