package broker

import "context"

// DeliverDue delivers what is due by now and returns when that has ended.
func (b *Broker) DeliverDue(ctx context.Context) error {
	started, err := b.startDeliveries(ctx)
	if err != nil {
		return err
	}
	started.Wait()
	return nil
}
