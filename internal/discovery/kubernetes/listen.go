package kubernetes

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// listening hears how every list and watch begins: the informer itself says
// nothing of an API server that refuses the connection.
func (about subject) listening(lw *cache.ListWatch) cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := lw.ListWithContextFunc(ctx, o)
			if about.began(ctx, err); err == nil {
				about.tell() // an empty list has no event
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := lw.WatchFuncWithContext(ctx, o)
			if o.SendInitialEvents != nil && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) {
				return w, err // a list as a stream, which older servers refuse: the list follows
			}
			about.began(ctx, err)
			return w, err
		},
	}
}

func (about subject) began(ctx context.Context, err error) {
	if ctx.Err() == nil {
		about.heard(err)
	}
}
